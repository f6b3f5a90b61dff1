import { isDigest, type Digest } from "../../bytes/index.ts";
import { tcbStatuses, type TcbStatus } from "../intel/status-words.ts";
import {
  flag,
  malformed,
  optional,
  readConstraint,
  readDigest,
  readFlag,
  readHex,
  readList,
  readMasked,
  readMoment,
  readNumber,
  readObject,
  readText,
  readUnchecked,
  readWord,
  type PolicyObject,
} from "./read.ts";
import type { Constraint, EventRule, SgxRules, TdxRules } from "./schema.ts";

const allowable = tcbStatuses.filter((status) => status !== "Revoked");

/** A status list. `Revoked` cannot be allowed by anything. */
function readStatuses(value: unknown, path: string): Constraint<TcbStatus> {
  const unchecked = readUnchecked(value, path);
  if (unchecked !== undefined) return unchecked;
  return { kind: "one-of", values: readList(readWord(allowable))(value, path) };
}

const onlyUpToDate: Constraint<TcbStatus> = { kind: "one-of", values: ["UpToDate"] };
const tdxMembers = [
  "tcbStatus",
  "minTcbDate",
  "allowAdvisories",
  "denyAdvisories",
  "minTeeTcbSvn",
  "minPckTcb",
  "mrSeam",
  "mrSignerSeam",
  "tdAttributes",
  "allowDebug",
  "allowMigratable",
  "requireSeptVeDisable",
  "xfam",
  "mrTd",
  "mrConfigId",
  "mrOwner",
  "mrOwnerConfig",
  "rtmr",
  "images",
  "serviceTd",
  "eventLog",
];

/** Reads the member `tdx`. What is left out takes the safe default: only `UpToDate`, no debug, no migration, no service TD. */
export function readTdxRules(value: unknown, path: string): TdxRules {
  const rules = readObject(value, path, tdxMembers);
  const register = readConstraint(readDigest(48));
  const rtmr = optional(rules, "rtmr", (item, at) => readObject(item, at, ["0", "1", "2", "3"]));
  return {
    ...readIntelCommon(rules),
    minTeeTcbSvn: optional(rules, "minTeeTcbSvn", readSvns),
    mrSeam: optional(rules, "mrSeam", register),
    mrSignerSeam: optional(rules, "mrSignerSeam", register),
    tdAttributes: optional(rules, "tdAttributes", readMasked(8)),
    allowDebug: flag(rules, "allowDebug", false),
    allowMigratable: flag(rules, "allowMigratable", false),
    requireSeptVeDisable: flag(rules, "requireSeptVeDisable", false),
    xfam: optional(rules, "xfam", (item, at) => {
      const object = readObject(item, at, ["fixed1", "allowed"]);
      return {
        fixed1: readHex(8)(object.members["fixed1"], `${at}.fixed1`),
        allowed: readHex(8)(object.members["allowed"], `${at}.allowed`),
      };
    }),
    mrTd: optional(rules, "mrTd", register),
    mrConfigId: optional(rules, "mrConfigId", register),
    mrOwner: optional(rules, "mrOwner", register),
    mrOwnerConfig: optional(rules, "mrOwnerConfig", register),
    rtmr: ["0", "1", "2", "3"].map((name) => (rtmr === undefined ? undefined : optional(rtmr, name, register))),
    images: optional(rules, "images", readConstraint(readImage)),
    serviceTd: optional(rules, "serviceTd", (item, at) => (item === "none" ? "none" : register(item, at))) ?? "none",
    eventLog: optional(rules, "eventLog", readEventLog) ?? { require: false, secureBoot: false, events: [], onlyListed: [] },
  };
}

function readImage(value: unknown, path: string): Digest {
  const text = readText(value, path);
  if (!isDigest(text)) throw malformed(path, "is not the digest of a manifest, such as sha256: and 64 hex digits");
  return text;
}

function readIntelCommon(rules: PolicyObject) {
  return {
    tcbStatus: optional(rules, "tcbStatus", readStatuses) ?? onlyUpToDate,
    minTcbDate: optional(rules, "minTcbDate", readMoment),
    allowAdvisories: optional(rules, "allowAdvisories", readConstraint(readAdvisory)),
    denyAdvisories: optional(rules, "denyAdvisories", readList(readAdvisory)) ?? [],
    minPckTcb: optional(rules, "minPckTcb", (item, at) => {
      const object = readObject(item, at, ["components", "pceSvn"]);
      const components = optional(object, "components", readList(readNumber(255))) ?? [];
      if (components.length !== 16) throw malformed(`${at}.components`, "is not a list of 16 numbers");
      return { components, pceSvn: optional(object, "pceSvn", readNumber(65535)) ?? 0 };
    }),
  };
}

function readAdvisory(value: unknown, path: string): string {
  const text = readText(value, path);
  if (!/^INTEL-SA-\d{5}$/.test(text)) throw malformed(path, "is not an advisory such as INTEL-SA-00837");
  return text;
}

/** Leading components in hex, the rest zero: `060103` is at least 6, 1, 3. Never compared as one number. */
export function readSvns(value: unknown, path: string): readonly number[] {
  const text = readText(value, path).replace(/^0x/i, "");
  if (!/^(?:[0-9a-fA-F]{2}){1,16}$/.test(text)) throw malformed(path, "is not up to 16 components in hex, two digits each");
  const bytes = Buffer.from(text, "hex");
  return Array.from({ length: 16 }, (_, i) => bytes[i] ?? 0);
}

function readEventLog(value: unknown, path: string): TdxRules["eventLog"] {
  const rules = readObject(value, path, ["require", "secureBoot", "events", "onlyListed"]);
  const secureBoot = optional(rules, "secureBoot", readFlag) ?? false;
  const events = optional(rules, "events", readList(readEventRule)) ?? [];
  const onlyListed = optional(rules, "onlyListed", readList(readNumber(3))) ?? [];
  // Asking for something that only the log can prove is asking for the log.
  const implied = secureBoot || events.length > 0 || onlyListed.length > 0;
  return { require: flag(rules, "require", implied) || implied, secureBoot, events, onlyListed };
}

function readEventRule(value: unknown, path: string): EventRule {
  const rule = readObject(value, path, ["rtmr", "type", "digest"]);
  const digests = readConstraint(readDigest(48))(rule.members["digest"], `${path}.digest`);
  if (digests.kind === "unchecked") throw malformed(`${path}.digest`, "cannot be unchecked: an event is known by its digest alone");
  return { rtmr: readNumber(3)(rule.members["rtmr"], `${path}.rtmr`), type: optional(rule, "type", readText), digests: digests.values };
}

const sgxMembers = [
  "tcbStatus",
  "minTcbDate",
  "allowAdvisories",
  "denyAdvisories",
  "minPckTcb",
  "mrEnclave",
  "mrSigner",
  "isvProdId",
  "minIsvSvn",
  "attributes",
  "allowDebug",
];

/** Reads the member `sgx`. */
export function readSgxRules(value: unknown, path: string): SgxRules {
  const rules = readObject(value, path, sgxMembers);
  const measurement = readConstraint(readDigest(32));
  return {
    ...readIntelCommon(rules),
    mrEnclave: optional(rules, "mrEnclave", measurement),
    mrSigner: optional(rules, "mrSigner", measurement),
    isvProdId: optional(rules, "isvProdId", readNumber(65535)),
    minIsvSvn: optional(rules, "minIsvSvn", readNumber(65535)),
    attributes: optional(rules, "attributes", readMasked(16)),
    allowDebug: flag(rules, "allowDebug", false),
  };
}
