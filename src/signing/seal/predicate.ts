import { isDigest, type Digest } from "../../bytes/index.ts";
import { aList, aText, anObject, malformedSignature, type JsonObject } from "../shape.ts";

/** The predicate type of the attestation on a sealed image. */
export const sealPredicate = "https://ociseal.dev/sealed-image/v1";

/** One layer before and after sealing. */
export interface SealedLayer {
  /** Digest of the stored, encrypted form. */
  readonly ciphertext: Digest;
  /** Digest of the form that was encrypted (compressed, if it was). */
  readonly plaintext: Digest;
  /** The cipher's name as in the layer's options: `AES_256_GCM_C2SP_CHUNKED_V1`. */
  readonly cipher: string;
}

/** A signature of the source that was verified before sealing. */
export interface SourceSignature {
  readonly format: "legacy" | "bundle";
  /** `key:<fingerprint>` or `certificate:<identity> (<issuer>)`. */
  readonly signatory: string;
}

/** Something about the plaintext image that came along: an SBOM, a provenance statement. */
export interface BoundReferrer {
  readonly artifactType: string;
  /** Its manifest at the source, about the plaintext digest. */
  readonly source: Digest;
  /** Its manifest beside the sealed image. */
  readonly bound: Digest;
}

/** What whoever sealed an image states about it. Nothing secret: key identifiers, no keys. */
export interface SealFacts {
  /** The manifest or index that was sealed. */
  readonly plaintext: { readonly mediaType: string; readonly digest: Digest; readonly size: number };
  /** Layers that were encrypted, in their order; layers left in the clear are not listed. */
  readonly layers: readonly SealedLayer[];
  /** For whom: `jwe:<key-id>`, `kbs:///repository/type/tag`, `provider:<name>`. */
  readonly recipients: readonly string[];
  readonly sourceSignatures: readonly SourceSignature[];
  readonly referrers: readonly BoundReferrer[];
  readonly tool: { readonly name: string; readonly version: string };
  readonly sealedAt: Date;
}

/** The predicate, as JSON values, members in the order of {@link SealFacts}. */
export function sealPredicateOf({ plaintext, layers, recipients, sourceSignatures, referrers, tool, sealedAt }: SealFacts): JsonObject {
  const { mediaType, digest, size } = plaintext;
  return {
    plaintext: { mediaType, digest, size },
    layers: layers.map(({ ciphertext, plaintext: before, cipher }) => ({ ciphertext, plaintext: before, cipher })),
    recipients,
    sourceSignatures: sourceSignatures.map(({ format, signatory }) => ({ format, signatory })),
    referrers: referrers.map(({ artifactType, source, bound }) => ({ artifactType, source, bound })),
    tool: { name: tool.name, version: tool.version },
    sealedAt: sealedAt.toISOString(),
  };
}

/** Reads the predicate of a verified attestation. Unknown members are passed over: newer tools may say more. Throws `ERR_SIGNATURE_MALFORMED`. */
export function parseSealPredicate(value: unknown): SealFacts {
  const top = anObject(value, "predicate");
  const plaintext = anObject(top["plaintext"], "plaintext");
  const tool = anObject(top["tool"], "tool");
  const size = plaintext["size"];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
    throw malformedSignature("plaintext.size is not a size in bytes");
  const sealedAt = new Date(aText(top["sealedAt"], "sealedAt"));
  if (Number.isNaN(sealedAt.getTime())) throw malformedSignature("sealedAt is not a time");
  return {
    plaintext: {
      mediaType: aText(plaintext["mediaType"], "plaintext.mediaType"),
      digest: aDigest(plaintext["digest"], "plaintext.digest"),
      size,
    },
    layers: aList(top["layers"], "layers").map((item, i) => {
      const layer = anObject(item, `layers[${i}]`);
      return {
        ciphertext: aDigest(layer["ciphertext"], `layers[${i}].ciphertext`),
        plaintext: aDigest(layer["plaintext"], `layers[${i}].plaintext`),
        cipher: aText(layer["cipher"], `layers[${i}].cipher`),
      };
    }),
    recipients: aList(top["recipients"], "recipients").map((item, i) => aText(item, `recipients[${i}]`)),
    sourceSignatures: aList(top["sourceSignatures"], "sourceSignatures").map((item, i) => {
      const source = anObject(item, `sourceSignatures[${i}]`);
      const format = aText(source["format"], `sourceSignatures[${i}].format`);
      if (format !== "legacy" && format !== "bundle") throw malformedSignature(`sourceSignatures[${i}].format is unknown`);
      return { format, signatory: aText(source["signatory"], `sourceSignatures[${i}].signatory`) };
    }),
    referrers: aList(top["referrers"], "referrers").map((item, i) => {
      const referrer = anObject(item, `referrers[${i}]`);
      return {
        artifactType: aText(referrer["artifactType"], `referrers[${i}].artifactType`),
        source: aDigest(referrer["source"], `referrers[${i}].source`),
        bound: aDigest(referrer["bound"], `referrers[${i}].bound`),
      };
    }),
    tool: { name: aText(tool["name"], "tool.name"), version: aText(tool["version"], "tool.version") },
    sealedAt,
  };
}

function aDigest(value: unknown, where: string): Digest {
  const text = aText(value, where);
  if (!isDigest(text)) throw malformedSignature(`${where} is not a digest`);
  return text;
}
