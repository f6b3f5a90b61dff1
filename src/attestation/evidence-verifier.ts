import { AttestationError } from "./errors.ts";
import type { JsonObject } from "./attester/json.ts";
import { evidenceFromJson } from "./evidence-format.ts";
import type { CollateralSource } from "./collateral/source.ts";
import { appraise } from "./policy/appraise.ts";
import type { AttestationPolicy } from "./policy/schema.ts";
import { requireAccepted, type VerificationResult } from "./result.ts";
import type { Finding } from "./findings.ts";
import { IntelMemory } from "./intel/memory.ts";
import { newFindingSink } from "./refuse.ts";
import { checkWithoutNetwork } from "./local-checks.ts";
import { builtInRoots, type TrustRoots } from "./trust-roots.ts";
import { verifyEvidence } from "./verify-evidence.ts";

/** What a server is asked to verify: evidence as RCAR carries it, and what it must bind. */
export interface HardwareEvidence {
  readonly tee: string;
  readonly evidence: unknown;
  /** The runtime-data digest. */
  readonly reportData: Uint8Array;
  readonly initDataDigest?: Uint8Array | undefined;
  readonly now: Date;
  readonly signal?: AbortSignal | undefined;
}

/** What verified evidence says, in the form that attestation tokens carry. */
export interface HardwareClaims {
  readonly claims: JsonObject;
  /** Hex, whole field. */
  readonly reportData: string;
  readonly initData?: string | undefined;
}

/** How a server verifies hardware evidence. */
export interface HardwareVerifierOptions {
  readonly collateral: CollateralSource;
  readonly roots?: TrustRoots | undefined;
  /** Refuses evidence that the policy refuses. Without one a key may only be released by a rule that looks at the claims. */
  readonly policy?: AttestationPolicy | undefined;
}

const tees = ["tdx", "sgx", "snp"] as const;

/**
 * Verifies TDX, SGX and SNP evidence for a Key Broker Service. `verify` throws `ERR_EVIDENCE_REFUSED` with every finding in
 * its details, or `ERR_COLLATERAL_UNAVAILABLE` when the evidence cannot be judged now. An event log that does not replay is
 * a refusal here, with or without a policy.
 */
export function hardwareVerifier(options: HardwareVerifierOptions): {
  readonly tees: readonly ("tdx" | "sgx" | "snp")[];
  verify(request: HardwareEvidence): Promise<HardwareClaims>;
} {
  const kept: KeptParts = { roots: options.roots ?? builtInRoots(), memory: new IntelMemory() };
  return { tees, verify: async (request) => claimsOf(await verifyOne(request, options, kept), options) };
}

/** What lives as long as a verifier. */
interface KeptParts {
  readonly roots: TrustRoots;
  readonly memory: IntelMemory;
}

async function verifyOne(
  request: HardwareEvidence,
  { collateral, policy }: HardwareVerifierOptions,
  { roots, memory }: KeptParts,
): Promise<VerificationResult> {
  const tee = tees.find((known) => known === request.tee);
  if (tee === undefined)
    throw new AttestationError("ERR_EVIDENCE_REFUSED", { message: `evidence of ${request.tee} cannot be verified here` });
  // Evidence that cannot be read goes on without collateral, to be refused for what it is.
  const raw = newFindingSink().attempt(() => evidenceFromJson(request.evidence));
  const context = { roots, at: request.now, reportData: request.reportData, atHand: collateral.atHand };
  const problems = raw === undefined || collateral.reach === "at-hand" ? [] : checkWithoutNetwork(raw, context);
  if (problems.length > 0) throw refusedFor(tee, problems);
  const bundle = raw === undefined ? undefined : await collateral.find(raw, { now: request.now, signal: request.signal });
  return verifyEvidence({
    evidence: raw === undefined ? { json: request.evidence } : { parsed: raw },
    tee,
    at: request.now,
    reportData: { kind: "equals", value: request.reportData },
    initData:
      request.initDataDigest === undefined
        ? { kind: "unchecked", reason: "the guest sent no init-data" }
        : { kind: "equals", value: request.initDataDigest },
    collateral: bundle,
    roots,
    memory,
    maskedChipId: policy?.snp?.allowMaskedChipId === true ? "leave-to-policy" : "refuse",
  });
}

function claimsOf(result: VerificationResult, { policy }: HardwareVerifierOptions): HardwareClaims {
  const verified = requireAccepted(result);
  const findings = [
    ...(policy === undefined ? [] : appraise(verified, policy).findings.filter(({ severity }) => severity === "refusal")),
    ...(verified.detail.kind === "dcap" && verified.detail.eventLog.kind === "failed" && policy === undefined
      ? [verified.detail.eventLog.finding]
      : []),
  ];
  if (findings.length > 0) throw refusedFor(verified.tee, findings);
  const { report_data: _reportData, init_data: _initData, ...claims } = verified.claims;
  return { claims, reportData: verified.reportData.toString("hex"), initData: verified.initData?.toString("hex") };
}

function refusedFor(tee: string, findings: readonly Finding[]): AttestationError {
  return new AttestationError("ERR_EVIDENCE_REFUSED", {
    message: `the ${tee} evidence is refused: ${findings.map(({ message }) => message).join("; ")}`,
    hint: findings.find(({ hint }) => hint !== undefined)?.hint,
    details: { findings },
  });
}
