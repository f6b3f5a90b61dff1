import { parseJson } from "../../bytes/index.ts";
import { PolicyError } from "../errors.ts";

/** Hex digests that a guest's launch measurement may have, in lower case. Empty: none. */
export type Measurements = readonly string[];

/** A policy as its text says it; absent members do not constrain, empty lists allow nothing. */
export interface PolicyDocument {
  readonly resources: string | undefined;
  readonly tees: readonly string[];
  readonly minTcbLevel: Readonly<Record<string, string | number>> | undefined;
  readonly allowedMeasurements: Measurements | undefined;
  readonly debugDisabled: boolean;
  readonly secureBoot: boolean;
  readonly imageDigests: readonly string[] | undefined;
  readonly imageSigners: readonly string[] | undefined;
  readonly initData: readonly string[] | undefined;
  readonly notAfter: Date | undefined;
}

const maxBytes = 1 << 20;
const members = [
  "version",
  "resources",
  "tee",
  "tee_type",
  "min_tcb_level",
  "allowed_measurements",
  "enforce_debug_disabled",
  "require_secure_boot",
  "images",
  "init_data",
  "not_after",
] as const;

/** Names of TEEs, and other spellings in use. `sample` must be named: a policy that does not never releases to it. */
const teeNames: Readonly<Record<string, string>> = {
  tdx: "tdx",
  snp: "snp",
  "sev-snp": "snp",
  sgx: "sgx",
  "az-snp-vtpm": "az-snp-vtpm",
  "az-tdx-vtpm": "az-tdx-vtpm",
  cca: "cca",
  csv: "csv",
  se: "se",
  sample: "sample",
};

/** What `min_tcb_level` may name: TDX and SGX component vectors in hex, SNP's numbers, Intel's status words. */
const tcbMembers: Readonly<Record<string, RegExp>> = {
  tdx_tcb: /^(?:0x)?(?:[0-9a-f]{2}){1,16}$/i,
  sgx_tcb: /^(?:0x)?(?:[0-9a-f]{2}){1,16}$/i,
  tcb_status: /^[A-Za-z]+$/,
  snp_bootloader: /^\d{1,3}$/,
  snp_tee: /^\d{1,3}$/,
  snp_snp: /^\d{1,3}$/,
  snp_microcode: /^\d{1,3}$/,
};

/** Parses a policy strictly: an unknown member is an error, with its path. Throws `ERR_POLICY_NOT_UNDERSTOOD`. */
export function parsePolicyDocument(text: string): PolicyDocument {
  const object = objectAt(parse(text), "policy");
  checkMembers(object, members, "policy");
  const { version } = object;
  if (version !== 1 && version !== "1" && version !== "1.0") throw malformed("policy.version", "is not 1");
  if (object["tee"] !== undefined && object["tee_type"] !== undefined)
    throw malformed("policy.tee_type", "stands beside tee: give one of them");
  const images = object["images"] === undefined ? {} : objectAt(object["images"], "policy.images");
  checkMembers(images, ["digests", "signed_by"], "policy.images");
  return {
    resources: optionalText(object, "resources", /^[A-Za-z0-9_.*/-]{1,512}$/, "a path pattern like default/image-kek/*"),
    tees: teesAt(object),
    minTcbLevel: tcbAt(object["min_tcb_level"]),
    allowedMeasurements: optionalList(object, "allowed_measurements", "policy")?.map((item, i) =>
      measurementAt(item, `policy.allowed_measurements[${i}]`),
    ),
    // Debug is off unless somebody says otherwise: with it the host reads the guest's memory.
    debugDisabled: optionalFlag(object, "enforce_debug_disabled") ?? true,
    secureBoot: optionalFlag(object, "require_secure_boot") ?? false,
    imageDigests: optionalList(images, "digests", "policy.images")?.map((item, i) => digestAt(item, `policy.images.digests[${i}]`)),
    imageSigners: optionalList(images, "signed_by", "policy.images"),
    initData: optionalList(object, "init_data", "policy")?.map((item, i) => measurementAt(item, `policy.init_data[${i}]`)),
    notAfter: momentAt(object["not_after"]),
  };
}

function parse(text: string): unknown {
  try {
    return parseJson(text, { maxBytes, maxDepth: 8, subject: "policy" });
  } catch (cause) {
    throw new PolicyError("ERR_POLICY_NOT_UNDERSTOOD", {
      message: cause instanceof Error ? cause.message : "the policy is not JSON",
      cause,
      hint,
    });
  }
}

function teesAt(object: Fields): readonly string[] {
  const value = object["tee"] ?? object["tee_type"];
  const list = value === undefined ? ["tdx", "snp"] : Array.isArray(value) ? value : [value];
  return list.map((item: unknown, i) => {
    const name = typeof item === "string" && Object.hasOwn(teeNames, item) ? teeNames[item] : undefined;
    if (name === undefined) throw malformed(`policy.tee[${i}]`, `is not one of ${Object.keys(teeNames).join(", ")}`);
    return name;
  });
}

function tcbAt(value: unknown): Readonly<Record<string, string | number>> | undefined {
  if (value === undefined) return undefined;
  const object = objectAt(value, "policy.min_tcb_level");
  checkMembers(object, Object.keys(tcbMembers), "policy.min_tcb_level");
  for (const [name, level] of Object.entries(object)) {
    const grammar = tcbMembers[name];
    if (grammar === undefined || !grammar.test(String(level)))
      throw malformed(`policy.min_tcb_level.${name}`, "is not a level of that kind");
  }
  return object as Readonly<Record<string, string | number>>;
}

function measurementAt(item: string, where: string): string {
  const hex = item.replace(/^sha(?:256|384|512):/, "").toLowerCase();
  // The sample TEE's launch digest is a word, so words are taken as they are.
  if (!/^[0-9a-z_-]{1,128}$/.test(hex)) throw malformed(where, "is not a measurement in hex");
  return hex;
}

function digestAt(item: string, where: string): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(item)) throw malformed(where, "is not a digest sha256:…");
  return item;
}

function momentAt(value: unknown): Date | undefined {
  if (value === undefined) return undefined;
  const text = typeof value === "string" ? value : "";
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime()) || !/^\d{4}-\d{2}-\d{2}T/.test(text))
    throw malformed("policy.not_after", "is not a moment like 2027-01-31T12:00:00Z");
  return moment;
}

type Fields = Readonly<Record<string, unknown>>;

const hint = "see the policy reference; nothing was stored";

function objectAt(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(where, "is not an object");
  return value as Fields;
}

function checkMembers(object: Fields, known: readonly string[], where: string): void {
  const unknown = Object.keys(object).find((name) => !known.includes(name));
  if (unknown !== undefined) throw malformed(`${where}.${unknown.slice(0, 80)}`, `is not known (known: ${known.join(", ")})`);
}

function optionalText(object: Fields, name: string, grammar: RegExp, expected: string): string | undefined {
  const value = object[name];
  if (value === undefined) return undefined;
  if (typeof value !== "string" || !grammar.test(value)) throw malformed(`policy.${name}`, `is not ${expected}`);
  return value;
}

function optionalFlag(object: Fields, name: string): boolean | undefined {
  const value = object[name];
  if (value !== undefined && typeof value !== "boolean") throw malformed(`policy.${name}`, "is neither true nor false");
  return value;
}

function optionalList(object: Fields, name: string, where: string): readonly string[] | undefined {
  const value = object[name];
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > 10_000) throw malformed(`${where}.${name}`, "is not a list of at most 10,000 texts");
  return value.map((item: unknown, i) => {
    if (typeof item !== "string" || item === "" || item.length > 1024) throw malformed(`${where}.${name}[${i}]`, "is not text");
    return item;
  });
}

function malformed(where: string, what: string): PolicyError {
  return new PolicyError("ERR_POLICY_NOT_UNDERSTOOD", { message: `${where} ${what}`, hint, details: { path: where } });
}
