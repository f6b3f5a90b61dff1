import { hash } from "node:crypto";
import type { JsonObject } from "../attester/json.ts";
import { parseDer } from "../der/reader.ts";
import { readIntegerBytes } from "../der/values.ts";
import { extensionOids } from "../der/extensions.ts";
import type { RevocationList } from "../der/crl.ts";
import { eventClaims } from "../eventlog/claims.ts";
import type { EventLogOutcome } from "../eventlog/outcome.ts";
import { bit, type SgxReport, type TdReport } from "./quote-body.ts";
import type { Quote } from "./quote.ts";
import type { VerifiedQuote } from "./verify.ts";

type Hex = (bytes: Buffer) => string;

const hex: Hex = (bytes) => bytes.toString("hex");

/** Hex of views of one buffer, cut from the hex of the whole: a quote has fifty fields, and each call to Node costs more than its bytes. */
function hexWithin(whole: Buffer): Hex {
  const text = hex(whole);
  return ({ byteOffset, length }) => {
    const start = 2 * (byteOffset - whole.byteOffset);
    return text.slice(start, start + 2 * length);
  };
}

/** Dates in collateral: the same few for many quotes, and writing one costs as much as all fields of a quote. */
const times = new Map<number, string>();
const maxTimes = 256;

function time(ms: number): string {
  const known = times.get(ms);
  if (known !== undefined) return known;
  const text = new Date(ms).toISOString().replace(".000Z", "Z");
  if (times.size >= maxTimes) times.clear();
  times.set(ms, text);
  return text;
}

/** What a quote says, under the names of Trustee's `tdx` and `sgx` verifiers. Nothing here is proved by itself. */
export function quoteClaims(quote: Quote): JsonObject {
  const { body, signedBytes } = quote;
  const field = hexWithin(signedBytes);
  const framed = {
    header: headerClaims(quote, field),
    body: body.kind === "sgx" ? sgxBody(body, field) : tdBody(body, field),
  };
  const whole =
    quote.version === 5 ? { ...framed, type: field(signedBytes.subarray(48, 50)), size: field(signedBytes.subarray(50, 54)) } : framed;
  if (body.kind === "sgx") {
    return {
      quote: whole,
      report_data: field(body.reportData),
      debug: body.debug,
      init_data: field(body.configId),
      mr_enclave: field(body.mrEnclave),
      mr_signer: field(body.mrSigner),
    };
  }
  const [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmr;
  return {
    quote: whole,
    report_data: field(body.reportData),
    debug: body.debug,
    init_data: field(body.mrConfigId),
    td_attributes: tdAttributeClaims(body),
    // The names that Trustee's shipped policies give their reference values.
    mr_td: field(body.mrTd),
    mr_seam: field(body.mrSeam),
    xfam: field(body.xfam),
    tcb_svn: field(body.teeTcbSvn),
    rtmr_0: field(rtmr0),
    rtmr_1: field(rtmr1),
    rtmr_2: field(rtmr2),
    rtmr_3: field(rtmr3),
  };
}

/** Everything about a verified quote: its own words, and what the collateral says about its platform. */
export function verifiedQuoteClaims(verified: VerifiedQuote, eventLog: EventLogOutcome): JsonObject {
  const { quote, pck, tcb, collateral } = verified;
  const { extension } = pck;
  return {
    ...quoteClaims(quote),
    tcb_status: tcb.status,
    ...(tcb.current === undefined ? {} : { tcb_status_launch: tcb.launch.status, tcb_status_current: tcb.current.status }),
    tcb_date: time(tcb.tcbDate),
    advisory_ids: tcb.advisoryIds,
    tcb_eval_num: tcb.evaluationDataNumber,
    platform_tcb_status: tcb.launch.platform.status,
    ...(tcb.launch.module === undefined ? {} : { tdx_module_tcb_status: tcb.launch.module.status }),
    qe_tcb_status: tcb.launch.qe.status,
    // Everything expired is refused, so what is left is always current ("0").
    collateral_expiration_status: "0",
    earliest_issue_date: time(collateral.earliestIssueDate),
    latest_issue_date: time(collateral.latestIssueDate),
    earliest_expiration_date: time(collateral.expiresAt),
    pck_crl_num: crlNumber(collateral.pckCrl),
    root_ca_crl_num: crlNumber(collateral.rootCrl),
    root_key_id: rootKeyIdOf(collateral.root),
    trust_root: collateral.root.fingerprint,
    platform_provider_id: hex(extension.ppid),
    ...(extension.platformInstanceId === undefined ? {} : { platform_instance_id: hex(extension.platformInstanceId) }),
    fmspc: hex(extension.fmspc),
    pce_id: hex(extension.pceId),
    pce_svn: extension.pceSvn,
    pck_tcb_components: extension.components,
    pck_issuer: pck.intermediate.subjectCommonName,
    sgx_type: { standard: "Standard", scalable: "Scalable", "scalable-with-integrity": "Scalable with Integrity" }[extension.sgxType],
    ...configurationClaims(extension.configuration),
    trailing_bytes: quote.trailingBytes,
    secureBoot: eventLog.kind === "replayed" && eventLog.secureBoot !== "unknown" ? eventLog.secureBoot === "on" : null,
    ...(eventLog.kind === "replayed" ? { uefi_event_logs: eventClaims(eventLog.events) } : {}),
  };
}

function headerClaims({ header, version, signedBytes }: Quote, field: Hex): JsonObject {
  const at = (start: number, end: number) => field(signedBytes.subarray(start, end));
  const start = { version: at(0, 2), att_key_type: at(2, 4) };
  const names = { vendor_id: field(header.vendorId), user_data: field(header.userData) };
  return version === 3
    ? { ...start, att_key_data_0: at(4, 8), qe_svn: at(8, 10), pce_svn: at(10, 12), ...names }
    : { ...start, tee_type: at(4, 8), reserved: at(8, 12), ...names };
}

function tdBody(body: TdReport, field: Hex): JsonObject {
  return {
    tcb_svn: field(body.teeTcbSvn),
    mr_seam: field(body.mrSeam),
    mrsigner_seam: field(body.mrSignerSeam),
    seam_attributes: field(body.seamAttributes),
    td_attributes: field(body.tdAttributes),
    xfam: field(body.xfam),
    mr_td: field(body.mrTd),
    mr_config_id: field(body.mrConfigId),
    mr_owner: field(body.mrOwner),
    mr_owner_config: field(body.mrOwnerConfig),
    rtmr_0: field(body.rtmr[0]),
    rtmr_1: field(body.rtmr[1]),
    rtmr_2: field(body.rtmr[2]),
    rtmr_3: field(body.rtmr[3]),
    report_data: field(body.reportData),
    ...(body.teeTcbSvn2 === undefined ? {} : { tee_tcb_svn2: field(body.teeTcbSvn2) }),
    ...(body.mrServiceTd === undefined ? {} : { mr_servicetd: field(body.mrServiceTd) }),
    ...Object.fromEntries(Object.entries(body.extended ?? {}).map(([name, value]) => [snakeCase(name), field(value)])),
  };
}

function sgxBody(body: SgxReport, field: Hex): JsonObject {
  return {
    cpu_svn: field(body.cpuSvn),
    misc_select: field(body.miscSelect),
    isv_ext_prod_id: field(body.isvExtProdId),
    "attributes.flags": field(body.attributes.subarray(0, 8)),
    "attributes.xfrm": field(body.attributes.subarray(8)),
    mr_enclave: field(body.mrEnclave),
    mr_signer: field(body.mrSigner),
    config_id: field(body.configId),
    isv_prod_id: field(body.raw.subarray(256, 258)),
    isv_svn: field(body.raw.subarray(258, 260)),
    config_svn: field(body.raw.subarray(260, 262)),
    isv_family_id: field(body.isvFamilyId),
    report_data: field(body.reportData),
  };
}

function tdAttributeClaims({ tdAttributes }: TdReport): JsonObject {
  return {
    debug: bit(tdAttributes, 0),
    septve_disable: bit(tdAttributes, 28),
    migratable: bit(tdAttributes, 29),
    protection_keys: bit(tdAttributes, 30),
    key_locker: bit(tdAttributes, 31),
    perfmon: bit(tdAttributes, 63),
  };
}

function configurationClaims(configuration: VerifiedQuote["pck"]["extension"]["configuration"]): JsonObject {
  if (configuration === undefined) return {};
  return {
    ...(configuration.dynamicPlatform === undefined ? {} : { is_dynamic_platform: configuration.dynamicPlatform }),
    ...(configuration.cachedKeys === undefined ? {} : { is_cached_keys: configuration.cachedKeys }),
    ...(configuration.smtEnabled === undefined ? {} : { is_smt_enabled: configuration.smtEnabled }),
  };
}

/** Read once from each list: a service that judges many quotes has the same ones for a day. */
const crlNumbers = new WeakMap<RevocationList, number>();

function crlNumber(list: RevocationList): number {
  const known = crlNumbers.get(list) ?? readCrlNumber(list);
  crlNumbers.set(list, known);
  return known;
}

function readCrlNumber(list: RevocationList): number {
  const extension = list.extensions.get(extensionOids.crlNumber);
  if (extension === undefined) return 0;
  const bytes = readIntegerBytes(parseDer(extension.value, list.path), list.path);
  return bytes.length > 6 ? Number.MAX_SAFE_INTEGER : bytes.readUIntBE(0, bytes.length);
}

type Root = VerifiedQuote["collateral"]["root"];
const rootKeyIds = new WeakMap<Root, string>();

function rootKeyIdOf(root: Root): string {
  // The uncompressed point at the end of its SubjectPublicKeyInfo, without its 0x04, is what Intel hashes.
  const known = rootKeyIds.get(root) ?? hash("sha384", root.spki.subarray(-64), "hex");
  rootKeyIds.set(root, known);
  return known;
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
