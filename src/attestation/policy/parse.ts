import { parseJson } from "../../bytes/index.ts";
import { teeNames, type TeeName } from "../tee.ts";
import { parseLegacyPolicy } from "./legacy.ts";
import {
  malformed,
  optional,
  readConstraint,
  readDuration,
  readList,
  readNumber,
  readObject,
  readText,
  readUnchecked,
  readWord,
  type PolicyObject,
} from "./read.ts";
import { readSgxRules, readTdxRules } from "./read-intel.ts";
import { readSnpRules } from "./read-snp.ts";
import { noCollateralRules, type AttestationPolicy, type CollateralRules, type HostId } from "./schema.ts";

export const policyVersion = "ociseal/attestation-policy/v1";

/** Largest policy that is read. */
const maxPolicySize = 4 * 1024 * 1024;

/**
 * Parses a policy: the full schema (`apiVersion: ociseal/attestation-policy/v1`) or the short one (`version: "1.0"`).
 *
 * Strict: an unknown member is an error, for a misspelt check is a check that does not happen. Throws
 * `ERR_ATTESTATION_POLICY_MALFORMED` with the path, and `ERR_JSON_MALFORMED`.
 */
export function parsePolicy(bytes: Uint8Array | string): AttestationPolicy {
  return readPolicy(parseJson(bytes, { maxBytes: maxPolicySize, maxDepth: 16, subject: "attestation policy" }));
}

/** Reads a policy that has been parsed as JSON already. */
export function readPolicy(value: unknown): AttestationPolicy {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed("policy", "is not a JSON object");
  if ("version" in value && !("apiVersion" in value)) return parseLegacyPolicy(value);
  if (!("apiVersion" in value)) {
    throw malformed(
      "policy",
      "says neither apiVersion nor version",
      `write "apiVersion": "${policyVersion}", or "version": "1.0" for the short form`,
    );
  }
  const object = readObject(value, "policy", [
    "apiVersion",
    "name",
    "tee",
    "reportData",
    "initData",
    "hosts",
    "collateral",
    "tdx",
    "sgx",
    "snp",
  ]);
  if (object.members["apiVersion"] !== policyVersion) {
    throw malformed(
      "policy.apiVersion",
      `is not ${policyVersion}`,
      `write "apiVersion": "${policyVersion}", or "version": "1.0" for the short form`,
    );
  }
  const rules = {
    tdx: optional(object, "tdx", readTdxRules),
    sgx: optional(object, "sgx", readSgxRules),
    snp: optional(object, "snp", readSnpRules),
  };
  const named = optional(object, "tee", readList(readWord(teeNames)));
  const present = (["tdx", "sgx", "snp"] as const).filter((tee) => rules[tee] !== undefined);
  const ruleless = named?.find((tee) => tee in rules && rules[tee as keyof typeof rules] === undefined);
  if (ruleless !== undefined)
    throw malformed("policy.tee", `allows ${ruleless}, for which the policy has no rules`, `add a member "${ruleless}" (it may be {})`);
  const tees: readonly TeeName[] = named ?? present;
  if (tees.length === 0)
    throw malformed("policy", "has rules for no TEE, so it would refuse everything", 'add a member "tdx", "snp" or "sgx"');
  return {
    name: optional(object, "name", readText) ?? "policy",
    source: "supplied",
    tees,
    reportData: optional(object, "reportData", readReportData),
    initData: optional(object, "initData", readConstraint(readInitData)),
    hosts: readHosts(object),
    collateral: readCollateral(object),
    ...rules,
    notes: [],
  };
}

function readReportData(value: unknown, path: string): AttestationPolicy["reportData"] {
  return readUnchecked(value, path) ?? readWord(["required"] as const)(value, path);
}

const initDataSizes = { sha256: 64, sha384: 96, sha512: 128 } as const;

/** `sha256:…`, `sha384:…`, `sha512:…`, or bare hex of one of their sizes. */
function readInitData(value: unknown, path: string): string {
  const [, algorithm, hex] = /^(?:(sha256|sha384|sha512):)?([0-9a-fA-F]+)$/.exec(readText(value, path)) ?? [];
  const fits =
    hex !== undefined &&
    (algorithm === undefined ? [64, 96, 128].includes(hex.length) : hex.length === initDataSizes[algorithm as keyof typeof initDataSizes]);
  if (!fits) throw malformed(path, "is not a digest of init-data (sha256:, sha384: or sha512: and hex)");
  return hex.toLowerCase();
}

function readHosts(policy: PolicyObject): AttestationPolicy["hosts"] {
  const hosts = optional(policy, "hosts", (value, path) => readObject(value, path, ["allow", "deny"]));
  if (hosts === undefined) return { allow: undefined, deny: [] };
  return { allow: optional(hosts, "allow", readList(readHost)), deny: optional(hosts, "deny", readList(readHost)) ?? [] };
}

const hostSizes: Readonly<Record<HostId["kind"], readonly number[]>> = { ppid: [32], piid: [32], chip: [16, 128], csp: [] };

function readHost(value: unknown, path: string): HostId {
  const [, kind, id] = /^(ppid|piid|chip|csp):(.+)$/.exec(readText(value, path)) ?? [];
  if (kind === undefined || id === undefined) throw malformed(path, "is not a host (ppid:, piid: or chip: and hex, or csp: and a name)");
  const known = kind as HostId["kind"];
  if (known === "csp") return { kind: known, value: id };
  if (!/^[0-9a-fA-F]+$/.test(id) || !hostSizes[known].includes(id.length))
    throw malformed(path, `is not a ${kind} of ${hostSizes[known].join(" or ")} hex digits`);
  return { kind: known, value: id.toLowerCase() };
}

function readCollateral(policy: PolicyObject): CollateralRules {
  const rules = optional(policy, "collateral", (value, path) =>
    readObject(value, path, ["maxAge", "update", "minTcbEvaluationDataNumber", "revocation"]),
  );
  if (rules === undefined) return noCollateralRules;
  return {
    maxAgeMs: optional(rules, "maxAge", readDuration),
    update: optional(rules, "update", readWord(["standard", "early"] as const)),
    minTcbEvaluationDataNumber: optional(rules, "minTcbEvaluationDataNumber", readNumber(1_000_000)),
    revocation: optional(rules, "revocation", (value, path) => readUnchecked(value, path) ?? readWord(["require"] as const)(value, path)),
  };
}
