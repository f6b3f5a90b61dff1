import { memberAt } from "../protocol/shape.ts";
import type { Appraisal, AppraisalInput, AttestationPolicy } from "../protocol/policy-seam.ts";
import { digestOfText } from "./default-release.ts";

/** Values of AR4SI: what a claim says when it was checked, or could not be. */
const executablesApproved = 3;
const executablesUnrecognized = 33;
const executablesApprovedBoot = 4;
const hardwareGenuine = 2;
const hardwareUnrecognized = 97;
const configurationApproved = 2;
const configurationSafe = 3;
const configurationUnsafe = 36;

/** What one row of the table needs to look at. */
interface Look {
  /** The value at a path of the TEE's claims. */
  claim(...path: readonly string[]): unknown;
  /** Whether a reference value lists the claim; a missing reference value lists nothing. */
  listed(reference: string, ...path: readonly string[]): boolean;
  /** Whether a reference value lists this value. */
  lists(reference: string, value: unknown): boolean;
  equals(reference: string, ...path: readonly string[]): boolean;
  atLeast(reference: string, ...path: readonly string[]): boolean;
}

interface Row {
  executables(look: Look): number;
  hardware(look: Look): boolean;
  configuration(look: Look): number;
}

const sampleRow: Row = {
  executables: (look) => (look.listed("launch_digest", "launch_digest") ? executablesApproved : executablesUnrecognized),
  hardware: (look) =>
    look.listed("svn", "svn") &&
    look.equals("major_version", "platform_version", "major") &&
    look.atLeast("minimum_minor_version", "platform_version", "minor"),
  configuration: (look) => (look.claim("debug") === false ? configurationApproved : configurationUnsafe),
};

const snpRow: Row = {
  executables: (look) => (look.listed("snp_launch_measurement", "measurement") ? executablesApproved : executablesUnrecognized),
  hardware: (look) =>
    look.listed("snp_bootloader", "reported_tcb_bootloader") &&
    look.listed("snp_microcode", "reported_tcb_microcode") &&
    look.listed("snp_snp_svn", "reported_tcb_snp") &&
    look.listed("snp_tee_svn", "reported_tcb_tee"),
  configuration: (look) => {
    if (!isOff(look.claim("policy_debug_allowed")) || !isOff(look.claim("policy_migrate_ma"))) return configurationUnsafe;
    const exact =
      look.equals("snp_smt_enabled", "platform_smt_enabled") &&
      look.equals("snp_tsme_enabled", "platform_tsme_enabled") &&
      look.equals("snp_guest_abi_major", "policy_abi_major") &&
      look.equals("snp_guest_abi_minor", "policy_abi_minor") &&
      look.equals("snp_single_socket", "policy_single_socket") &&
      look.equals("snp_smt_allowed", "policy_smt_allowed");
    return exact ? configurationApproved : configurationSafe;
  },
};

const tdxRow: Row = {
  executables: (look) => {
    if (!look.listed("rtmr_1", "quote", "body", "rtmr_1") || !look.listed("rtmr_2", "quote", "body", "rtmr_2"))
      return executablesUnrecognized;
    const kernel = eventListed(look, "tdvfkernel");
    const parameters = eventListed(look, "tdvfkernelparams");
    return kernel && parameters ? executablesApproved : executablesApprovedBoot;
  },
  hardware: (look) =>
    look.claim("quote", "header", "tee_type") === "81000000" &&
    look.claim("quote", "header", "vendor_id") === "939a7233f79c4ca9940a0db3957f0607" &&
    look.listed("mr_td", "quote", "body", "mr_td") &&
    look.claim("tcb_status") === "UpToDate" &&
    look.claim("collateral_expiration_status") === "0",
  configuration: (look) =>
    look.claim("td_attributes", "debug") === false && look.listed("xfam", "quote", "body", "xfam")
      ? configurationApproved
      : configurationUnsafe,
};

/** One row for each TEE that the policy knows; others stay unrecognised. */
const rows: Readonly<Record<string, Row>> = { sample: sampleRow, snp: snpRow, tdx: tdxRow };

const text = "ociseal built-in default appraisal 1: sample, snp and tdx as Trustee's default_cpu policy; other devices unrecognised";

/**
 * Appraises as Trustee's shipped `default_cpu` policy does, under the same names of claims and reference values.
 *
 * Without reference values nothing is affirming. Source: Trustee, attestation-service, default_cpu.rego; outcomes in its
 * tests.
 */
export function defaultAppraisalPolicy(): AttestationPolicy {
  return { id: "default", digest: digestOfText(text), appraise };
}

function appraise(input: AppraisalInput): Appraisal {
  const row = Object.hasOwn(rows, input.tee) ? rows[input.tee] : undefined;
  if (row === undefined) {
    return {
      vector: { executables: executablesUnrecognized, hardware: hardwareUnrecognized, configuration: configurationUnsafe },
      reasons: [`the default policy knows no rule for ${input.tee}`],
    };
  }
  const claims = input.input[input.tee];
  const look: Look = {
    claim: (...path) => memberAt(claims, ...path),
    listed: (reference, ...path) => isListed(input.referenceValue(reference), memberAt(claims, ...path)),
    lists: (reference, value) => isListed(input.referenceValue(reference), value),
    equals: (reference, ...path) => {
      const value = single(input.referenceValue(reference));
      return value !== undefined && value === memberAt(claims, ...path);
    },
    atLeast: (reference, ...path) => {
      const value = single(input.referenceValue(reference));
      const claim = memberAt(claims, ...path);
      return typeof value === "number" && typeof claim === "number" && claim >= value;
    },
  };
  const executables = row.executables(look);
  const hardware = row.hardware(look) ? hardwareGenuine : hardwareUnrecognized;
  const configuration = row.configuration(look);
  const reasons: string[] = [];
  if (executables === executablesUnrecognized) reasons.push("the measurement is not among the reference values");
  if (hardware === hardwareUnrecognized) reasons.push("the hardware or its firmware level is not among the reference values");
  if (configuration === configurationUnsafe)
    reasons.push("the guest's configuration allows debugging or migration, or is not among the reference values");
  return { vector: { executables, hardware, configuration }, reasons };
}

/** A missing reference value lists nothing, and a missing claim is never listed. */
function isListed(values: unknown, claim: unknown): boolean {
  return Array.isArray(values) && claim !== undefined && values.some((value) => value === claim);
}

/** Reference values are registered as one-element lists unless told otherwise. */
function single(value: unknown): unknown {
  return Array.isArray(value) ? (value.length === 1 ? value[0] : undefined) : value;
}

function isOff(value: unknown): boolean {
  return value === false || value === 0 || value === "0" || value === "false";
}

/** Whether the event log holds an event whose digest is a reference value. */
function eventListed(look: Look, reference: string): boolean {
  const events = look.claim("uefi_event_logs");
  if (!Array.isArray(events)) return false;
  return events.some((event: unknown) => {
    const digests = memberAt(event, "digests");
    return Array.isArray(digests) && digests.some((digest: unknown) => look.lists(reference, memberAt(digest, "digest")));
  });
}
