import type { Digest } from "../bytes/index.ts";
import type { Annotations } from "../oci/index.ts";
import { InternalError } from "../errors/index.ts";
import { parseBundle, preAuthEncoding } from "./bundle.ts";
import type { BundleCandidate, LegacyCandidate } from "./discover.ts";
import { legacyAnnotations, signaturePredicate, signatureTypes } from "./formats.ts";
import { verifyBytes } from "./keys/key-types.ts";
import { signatureOf } from "./legacy-manifest.ts";
import { parsePayload } from "./payload.ts";
import { Rejection, type CountedFinding, type LogEvidence, type Signatory } from "./report.ts";
import { quote } from "./quote.ts";
import type { CertificateRequirement, ClaimRequirement, KeyRequirement, SignatoryRequirement } from "./requirement.ts";
import type { SignatureMaterial } from "./trust/material.ts";
import type { SignedMessage } from "./trust/signed-content.ts";
import type { PublicKey } from "./keys/public-key.ts";
import { parseStatement, subjectsNaming } from "./statement.ts";
import type { JsonObject } from "./shape.ts";

export interface EvaluationRequest {
  readonly digest: Digest;
  readonly signatory: SignatoryRequirement;
  readonly claims: ClaimRequirement;
  /** `https://sigstore.dev/cosign/sign/v1` for a signature; another one for an attestation. */
  readonly predicateType: string;
  readonly now: Date;
}

/**
 * Checks one legacy signature: first the signature over the exact bytes, then what the bytes say.
 * Throws {@link Rejection}, or the errors of the strict parsers.
 */
export async function evaluateLegacy(candidate: LegacyCandidate, payload: Buffer, request: EvaluationRequest): Promise<CountedFinding> {
  if (request.predicateType !== signaturePredicate) throw new Rejection("predicate", "a legacy signature is not an attestation");
  const { annotations } = candidate;
  const signed: SignedMessage = { message: payload, payload, signature: signatureOf(annotations) };
  const { signatory, evidence } = await verifySignatory(signed, { kind: "legacy", annotations }, request);
  const claims = parsePayload(payload);
  if (claims.digest !== request.digest) throw new Rejection("digest", `it signs another image (${claims.digest})`);
  const { reference } = request.claims;
  if (reference !== undefined && !reference.accepts(claims.reference)) {
    throw new Rejection("repository", `it signs the name ${quote(claims.reference)}, which ${reference.name} does not accept`);
  }
  if (request.claims.optional === "as-skopeo") checkOptional(claims.optional);
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
  const signed: SignedMessage = { message, payload: envelope.payload, signature: envelope.signature };
  const { signatory, evidence } = await verifySignatory(signed, { kind: "bundle", bundle }, request);
  const statement = parseStatement(envelope.payload);
  const subjects = subjectsNaming(statement, request.digest);
  const [subject] = subjects;
  if (subject === undefined) throw new Rejection("digest", "its statement is about another image");
  if (statement.predicateType !== request.predicateType) {
    throw new Rejection("predicate", `it is of type ${quote(statement.predicateType)} (expected ${quote(request.predicateType)})`);
  }
  if (request.claims.reference?.bundles === "refuse")
    throw new Rejection("repository", "a bundle names no repository, and the policy asks for one");
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

interface VerifiedSignatory {
  readonly signatory: Signatory;
  readonly evidence: LogEvidence;
}

async function verifySignatory(signed: SignedMessage, material: SignatureMaterial, request: EvaluationRequest): Promise<VerifiedSignatory> {
  switch (request.signatory.kind) {
    case "keys":
      return await verifyByKeys(signed, material, request.signatory);
    case "certificate":
      return await verifyByIdentity(signed, material, request.signatory, request.now);
  }
}

async function verifyByKeys(signed: SignedMessage, material: SignatureMaterial, requirement: KeyRequirement): Promise<VerifiedSignatory> {
  if (material.kind === "bundle" && material.bundle.material.kind !== "public-key") {
    throw new Rejection("key", "it was made with a certificate, and a key is required");
  }
  const key = await findKey(signed, requirement.keys);
  const signatory: Signatory = { kind: "key", fingerprint: key.fingerprint, source: key.source };
  if (requirement.log === "ignore" || (requirement.log === "if-present" && !hasLogEntry(material))) {
    return { signatory, evidence: { log: "not-required", times: [] } };
  }
  if (!hasLogEntry(material)) throw new Rejection("log", "no transparency log entry comes with it, and one is required");
  if (requirement.logAnchors === undefined) {
    throw new Rejection(
      "log",
      "it comes with a transparency log entry, and no trusted root was given to check it (--trusted-root, or --tlog ignore)",
    );
  }
  // Certificates and logs are rare beside keys, and their libraries cost more start-up than everything else here.
  const { verifyLogEntries } = await import("./trust/verify-evidence.ts");
  return { signatory, evidence: verifyLogEntries({ signed, material, key, anchors: requirement.logAnchors }) };
}

async function findKey({ message, signature }: SignedMessage, keys: KeyRequirement["keys"]): Promise<PublicKey> {
  for (const candidate of keys) if (await verifyBytes(message, candidate.key, candidate.type, signature)) return candidate;
  throw new Rejection(
    "key",
    keys.length === 1 ? "it was not made by the given key" : `it was made by none of the ${keys.length} given keys`,
  );
}

async function verifyByIdentity(
  signed: SignedMessage,
  material: SignatureMaterial,
  { identity, anchors, log, logAnchors }: CertificateRequirement,
  now: Date,
): Promise<VerifiedSignatory> {
  if (
    material.kind === "bundle"
      ? material.bundle.material.kind !== "certificate"
      : material.annotations[legacyAnnotations.certificate] === undefined
  ) {
    throw new Rejection("certificate", "it was made with a key, and an identity is required");
  }
  if (log === "required" && logAnchors === undefined) {
    throw new InternalError({ message: "a log entry is required of certificates, and nothing vouches for logs" });
  }
  const { verifyByCertificate } = await import("./trust/verify-evidence.ts");
  const rule =
    log === "required" && logAnchors !== undefined ? { rule: log, anchors: logAnchors } : { rule: log === "required" ? "if-present" : log };
  return await verifyByCertificate({ signed, material, anchors, identity, log: rule, now });
}

function hasLogEntry(material: SignatureMaterial): boolean {
  switch (material.kind) {
    case "legacy":
      return (material.annotations[legacyAnnotations.bundle] ?? "") !== "";
    case "bundle":
      return material.bundle.logEntries > 0;
  }
}

/** Source: containers/image signature/internal/sigstore_payload.go: two members that it knows, typed; others are passed over. */
function checkOptional({ creator, timestamp }: JsonObject): void {
  if (creator !== undefined && typeof creator !== "string") throw new Rejection("payload", "its optional.creator is not text");
  if (timestamp !== undefined && !Number.isSafeInteger(timestamp))
    throw new Rejection("payload", "its optional.timestamp is not a whole number");
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
