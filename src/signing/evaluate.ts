import type { Digest } from "../bytes/index.ts";
import type { Annotations } from "../oci/index.ts";
import { parseBundle, preAuthEncoding, type Bundle } from "./bundle.ts";
import type { BundleCandidate, LegacyCandidate } from "./discover.ts";
import { legacyAnnotations, signaturePredicate, signatureTypes } from "./formats.ts";
import { verifyBytes } from "./key-types.ts";
import { signatureOf } from "./legacy-manifest.ts";
import { parsePayload } from "./payload.ts";
import { Rejection, type CountedFinding, type LogEvidence, type Signatory } from "./report.ts";
import type { ClaimRequirement, KeyRequirement, SignatoryRequirement } from "./requirement.ts";
import { parseStatement, subjectsNaming } from "./statement.ts";
import type { JsonObject } from "./shape.ts";

export interface EvaluationRequest {
  readonly digest: Digest;
  readonly signatory: SignatoryRequirement;
  readonly claims: ClaimRequirement;
  /** `https://sigstore.dev/cosign/sign/v1` for a signature; another one for an attestation. */
  readonly predicateType: string;
}

/**
 * Checks one legacy signature: first the signature over the exact bytes, then what the bytes say.
 * Throws {@link Rejection}, or the errors of the strict parsers.
 */
export async function evaluateLegacy(candidate: LegacyCandidate, payload: Buffer, request: EvaluationRequest): Promise<CountedFinding> {
  if (request.predicateType !== signaturePredicate) throw new Rejection("predicate", "a legacy signature is not an attestation");
  const { annotations } = candidate;
  const { signatory, evidence } = await verifySignatory(
    payload,
    signatureOf(annotations),
    { kind: "legacy", annotations },
    request.signatory,
  );
  const claims = parsePayload(payload);
  if (claims.digest !== request.digest) throw new Rejection("digest", `it signs another image (${claims.digest})`);
  if (request.claims.repository !== undefined && claims.reference !== request.claims.repository) {
    throw new Rejection("repository", `it signs the repository ${quote(claims.reference)} (expected ${quote(request.claims.repository)})`);
  }
  checkAnnotations(claims.optional, request.claims.annotations);
  return {
    verdict: "counts",
    format: "legacy",
    location: candidate.location,
    signatory,
    evidence,
    claims: {
      digest: claims.digest,
      reference: claims.reference,
      annotations: claims.optional,
      predicateType: signaturePredicate,
      predicate: undefined,
    },
  };
}

/** As {@link evaluateLegacy} for a bundle. The statement decides; the annotations of the bundle's manifest are never read. */
export async function evaluateBundle(candidate: BundleCandidate, bytes: Buffer, request: EvaluationRequest): Promise<CountedFinding> {
  const bundle = parseBundle(bytes);
  const { envelope } = bundle;
  const message = preAuthEncoding(envelope.payloadType, envelope.payload);
  const { signatory, evidence } = await verifySignatory(message, envelope.signature, { kind: "bundle", bundle }, request.signatory);
  const statement = parseStatement(envelope.payload);
  const subjects = subjectsNaming(statement, request.digest);
  const [subject] = subjects;
  if (subject === undefined) throw new Rejection("digest", "its statement is about another image");
  if (statement.predicateType !== request.predicateType) {
    throw new Rejection("predicate", `it is of type ${quote(statement.predicateType)} (expected ${quote(request.predicateType)})`);
  }
  if (request.claims.repository !== undefined) throw new Rejection("repository", "a bundle names no repository, and one is required");
  checkAnnotations(subject.annotations, request.claims.annotations);
  return {
    verdict: "counts",
    format: "bundle",
    location: candidate.location,
    signatory,
    evidence,
    claims: {
      digest: request.digest,
      reference: undefined,
      annotations: subject.annotations,
      predicateType: statement.predicateType,
      predicate: statement.predicate,
    },
  };
}

/** What came with a signature besides its bytes. */
export type SignatureMaterial =
  | { readonly kind: "legacy"; readonly annotations: Annotations }
  | { readonly kind: "bundle"; readonly bundle: Bundle };

interface VerifiedSignatory {
  readonly signatory: Signatory;
  readonly evidence: LogEvidence;
}

async function verifySignatory(
  message: Buffer,
  signature: Buffer,
  material: SignatureMaterial,
  requirement: SignatoryRequirement,
): Promise<VerifiedSignatory> {
  switch (requirement.kind) {
    case "keys":
      return await verifyByKeys(message, signature, material, requirement);
  }
}

async function verifyByKeys(
  message: Buffer,
  signature: Buffer,
  material: SignatureMaterial,
  requirement: KeyRequirement,
): Promise<VerifiedSignatory> {
  if (material.kind === "bundle" && material.bundle.material.kind !== "public-key") {
    throw new Rejection("key", "it was made with a certificate, and a key is required");
  }
  for (const { key, type, fingerprint, source } of requirement.keys) {
    if (!(await verifyBytes(message, key, type, signature))) continue;
    const signatory: Signatory = { kind: "key", fingerprint, source };
    if (requirement.log === "ignore") return { signatory, evidence: { log: "not-required", times: [] } };
    if (!hasLogEntry(material)) {
      if (requirement.log === "required") throw new Rejection("log", "no transparency log entry comes with it, and one is required");
      return { signatory, evidence: { log: "not-required", times: [] } };
    }
    throw new Rejection("log", "it comes with a transparency log entry, and no trusted root was given to check it");
  }
  throw new Rejection(
    "key",
    requirement.keys.length === 1 ? "it was not made by the given key" : `it was made by none of the ${requirement.keys.length} given keys`,
  );
}

function hasLogEntry(material: SignatureMaterial): boolean {
  switch (material.kind) {
    case "legacy":
      return material.annotations[legacyAnnotations.bundle] !== undefined;
    case "bundle":
      return material.bundle.logEntries > 0;
  }
}

function checkAnnotations(signed: JsonObject, required: Annotations = {}): void {
  for (const [key, value] of Object.entries(required)) {
    if (!Object.hasOwn(signed, key)) throw new Rejection("annotations", `it lacks the annotation ${quote(key)}`);
    if (signed[key] !== value) throw new Rejection("annotations", `its annotation ${quote(key)} has another value`);
  }
}

export function checkLegacyMediaType(candidate: LegacyCandidate): void {
  if (candidate.payload.mediaType !== signatureTypes.simpleSigning) {
    throw new Rejection(
      "media-type",
      `its layer has the media type ${quote(candidate.payload.mediaType)} (expected ${signatureTypes.simpleSigning})`,
    );
  }
}

/** Foreign text inside a message: bounded, and without control characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
