import { isDigest, parseJson, type Digest } from "../bytes/index.ts";
import { payloadType, signatureLimits } from "./formats.ts";
import { aText, anObject, exactObject, exactText, malformedSignature, type JsonObject } from "./shape.ts";

/** What a legacy signature says, in cosign's and skopeo's "simple signing" form. */
export interface SimpleSigningPayload {
  /** `critical.identity.docker-reference`: a bare repository (cosign) or a full reference (skopeo). */
  readonly reference: string;
  readonly digest: Digest;
  readonly optional: JsonObject;
}

export interface PayloadFacts {
  readonly reference: string;
  readonly digest: Digest;
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * The bytes that are signed. Member order as Go writes them; `optional` is `null` without annotations.
 * Source: containers/image docs/containers-signature.5.md; sigstore/cosign specs/SIGNATURE_SPEC.md.
 */
export function serializePayload({ reference, digest, annotations }: PayloadFacts): Buffer {
  const critical = {
    identity: { "docker-reference": reference },
    image: { "docker-manifest-digest": digest },
    type: payloadType,
  };
  const optional = Object.keys(annotations).length === 0 ? null : sorted(annotations);
  return Buffer.from(JSON.stringify({ critical, optional }), "utf8");
}

/**
 * Parses a payload whose signature was verified, as strictly as skopeo: exact members, exact spelling, no member
 * twice. Throws `ERR_SIGNATURE_MALFORMED` or `ERR_JSON_MALFORMED`.
 */
export function parsePayload(bytes: Uint8Array): SimpleSigningPayload {
  const document = parseJson(bytes, { maxBytes: signatureLimits.maxPayloadBytes, subject: "signature payload" });
  const top = exactObject(document, "payload", ["critical", "optional"]);
  const critical = exactObject(top["critical"], "critical", ["identity", "image", "type"]);
  exactText(critical["type"], "critical.type", payloadType);
  const identity = exactObject(critical["identity"], "critical.identity", ["docker-reference"]);
  const image = exactObject(critical["image"], "critical.image", ["docker-manifest-digest"]);
  const digest = aText(image["docker-manifest-digest"], "docker-manifest-digest");
  if (!isDigest(digest)) throw malformedSignature("docker-manifest-digest is not a digest");
  return {
    reference: aText(identity["docker-reference"], "docker-reference"),
    digest,
    optional: top["optional"] === null ? {} : anObject(top["optional"], "optional"),
  };
}

/** Members in byte order, as Go writes a map. */
export function sorted<Value>(record: Readonly<Record<string, Value>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(record).sort(([left], [right]) => (left < right ? -1 : 1)));
}
