import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { ToolError } from "../errors/index.ts";
import { fetchBytes } from "./content.ts";
import { discover, mapLimited, readBundle, type Candidate, type Discovery } from "./discover.ts";
import { SigningError } from "./errors.ts";
import { checkLegacyMediaType, evaluateBundle, evaluateLegacy, type EvaluationRequest } from "./evaluate.ts";
import { describeFailure } from "./failure.ts";
import { signatureLimits, signaturePredicate } from "./formats.ts";
import { Rejection, type CountedFinding, type Finding, type SignatureReport } from "./report.ts";
import type { ClaimRequirement, SignatoryRequirement } from "./requirement.ts";

export interface VerifyRequest {
  readonly store: ContentReader;
  /** The manifest or index as pulled; for an encrypted image that of the ciphertext. */
  readonly target: Descriptor;
  readonly requirement: SignatoryRequirement;
  readonly claims?: ClaimRequirement | undefined;
  /** Where signatures are kept, when not beside the image (COSIGN_REPOSITORY). */
  readonly signatureStore?: ContentReader | undefined;
}

export interface VerifyAttestationRequest extends VerifyRequest {
  /** Exactly this type of predicate; a signature or another attestation does not count. */
  readonly predicateType: string;
}

const verified: unique symbol = Symbol("verified");

/**
 * Proof that a manifest was verified. Only this room makes one, so whoever must not act on an unverified image takes
 * it as a parameter.
 */
export interface VerifiedSignature {
  readonly target: Descriptor;
  /** Those that count, at least one. */
  readonly signatures: readonly [CountedFinding, ...CountedFinding[]];
  readonly report: SignatureReport;
  readonly [verified]: true;
}

/**
 * Finds every signature of the target in every format and judges each by the requirement; one that counts suffices, and
 * no number of bad ones hides it.
 *
 * Throws `ERR_SIGNATURE_MISSING`, `ERR_SIGNATURE_REJECTED` or `ERR_SIGNATURE_LIMIT` with the report in `details`, or the
 * store's own error when a signature could not be read and none that could counts.
 */
export async function verifyImage(request: VerifyRequest, options: CallOptions = {}): Promise<VerifiedSignature> {
  return await verifyPredicate({ ...request, predicateType: signaturePredicate }, options);
}

/** As {@link verifyImage} for attestations of one predicate type; the predicates stand in `signatures[].claims`. */
export async function verifyAttestation(request: VerifyAttestationRequest, options: CallOptions = {}): Promise<VerifiedSignature> {
  return await verifyPredicate(request, options);
}

async function verifyPredicate(request: VerifyAttestationRequest, options: CallOptions): Promise<VerifiedSignature> {
  const { target, requirement, claims = {}, predicateType } = request;
  const store = request.signatureStore ?? request.store;
  const found = await discover({ store, target, formats: ["legacy", "legacy-referrer", "bundle"] }, options);
  const evaluation: EvaluationRequest = { digest: target.digest, signatory: requirement, claims, predicateType };
  const { findings, failures } = await judge(store, found, evaluation, options);
  const report: SignatureReport = {
    target: { mediaType: target.mediaType, digest: target.digest, size: target.size },
    findings,
    leftOut: found.leftOut,
  };
  const [first, ...more] = findings.filter((finding) => finding.verdict === "counts");
  if (first !== undefined) return { target, signatures: [first, ...more], report, [verified]: true };
  if (failures.length > 0) throw failures[0];
  throw refusal(store, report, predicateType);
}

interface Judgement {
  readonly findings: readonly Finding[];
  readonly failures: readonly unknown[];
}

async function judge(store: ContentReader, found: Discovery, evaluation: EvaluationRequest, options: CallOptions): Promise<Judgement> {
  const failures: unknown[] = [];
  const payloads = new Map<string, Promise<Buffer>>();
  let budget: number = signatureLimits.maxTotalBytes;
  const read = async (candidate: Candidate): Promise<Buffer> => {
    const { digest, size } = candidate.kind === "legacy" ? candidate.payload : candidate.bundleLayer;
    const known = payloads.get(digest);
    if (known !== undefined) return await known;
    const max = candidate.kind === "legacy" ? signatureLimits.maxPayloadBytes : signatureLimits.maxBundleBytes;
    if (size > max) throw new Rejection("limit", `it has ${size} bytes (limit ${max})`);
    if (size > budget)
      throw new Rejection("limit", `the signatures of this image together have more than ${signatureLimits.maxTotalBytes} bytes`);
    budget -= size;
    const bytes = candidate.kind === "legacy" ? fetchBytes(store, candidate.payload, max, options) : readBundle(store, candidate, options);
    if (candidate.kind === "legacy") payloads.set(digest, bytes);
    return await bytes;
  };
  const judged = await mapLimited(found.candidates, signatureLimits.concurrency, async (candidate): Promise<Finding> => {
    const { kind: format, location } = candidate;
    try {
      if (candidate.kind === "bundle") return await evaluateBundle(candidate, await read(candidate), evaluation);
      checkLegacyMediaType(candidate);
      return await evaluateLegacy(candidate, await read(candidate), evaluation);
    } catch (error) {
      if (error instanceof Rejection) return { verdict: "rejected", format, location, check: error.check, reason: error.message };
      const { reason, failure } = describeFailure(location, error);
      if (failure !== undefined) failures.push(failure);
      const check = error instanceof ToolError && error.code.startsWith("ERR_SIGNATURE_") ? "payload" : "unreadable";
      return { verdict: "rejected", format, location, check, reason };
    }
  });
  const unreadable = found.unreadable.map(({ location, reason, failure }): Finding => {
    if (failure !== undefined) failures.push(failure);
    return { verdict: "rejected", format: "unknown", location, check: "unreadable", reason };
  });
  return { findings: [...judged, ...unreadable], failures };
}

const reasonsInMessage = 3;

function refusal(store: ContentReader, report: SignatureReport, predicateType: string): SigningError {
  const { findings, leftOut, target } = report;
  const what = predicateType === signaturePredicate ? "signature" : `attestation of type ${predicateType}`;
  const rejected = findings.filter((finding) => finding.verdict === "rejected");
  if (rejected.length === 0 && leftOut === 0) {
    return new SigningError("ERR_SIGNATURE_MISSING", {
      message: `${target.digest} in ${store.name} has no ${what}`,
      hint: "sign it (ociseal sign), or copy its signatures with it (ociseal copy --referrers)",
      details: { report },
    });
  }
  const reasons = rejected.slice(0, reasonsInMessage).map(({ location, reason }) => `${location}: ${reason}`);
  const others = rejected.length - reasons.length;
  const list = `${reasons.join("; ")}${others > 0 ? `; and ${others} more` : ""}`;
  if (leftOut > 0) {
    return new SigningError("ERR_SIGNATURE_LIMIT", {
      message: `none of the ${rejected.length} examined signatures of ${target.digest} in ${store.name} counts, and ${leftOut} more were not examined (${list})`,
      hint: "somebody floods the image with signatures; look at the registry, remove them, and verify again",
      details: { report },
    });
  }
  return new SigningError("ERR_SIGNATURE_REJECTED", {
    message: `no ${what} of ${target.digest} in ${store.name} counts (${list})`,
    hint: "check that the key or identity is the signer's; --json lists every signature with the check that it failed",
    details: { report },
  });
}
