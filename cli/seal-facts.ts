import type { KeyWrapper } from "../src/keywrap/index.ts";
import type { Descriptor } from "../src/oci/index.ts";
import type { LayerReport } from "../src/pipeline/index.ts";
import type { SealFacts, SourceSignature } from "../src/signing/index.ts";
import { readVersion } from "./version.ts";

/** What the seal attestation states: the plaintext's digests, ciphers, and for whom. */
export function sealFacts(
  source: Descriptor,
  layers: readonly LayerReport[],
  wrappers: readonly KeyWrapper[],
  sourceSignatures: readonly SourceSignature[],
): SealFacts {
  const sealed = new Map(
    layers.flatMap(({ outcome, cipher, source: before, plaintext = before.digest, result }) =>
      outcome === "encrypted" && cipher !== undefined ? [[result.digest, { ciphertext: result.digest, plaintext, cipher }] as const] : [],
    ),
  );
  return {
    plaintext: { mediaType: source.mediaType, digest: source.digest, size: source.size },
    layers: [...sealed.values()],
    recipients: wrappers.map(({ id, name, schemes }) =>
      id?.startsWith("kbs:") === true ? id : `${schemes[0] ?? "unknown"}:${id ?? name}`,
    ),
    sourceSignatures,
    referrers: [],
    tool: { name: "ociseal", version: readVersion() },
    sealedAt: new Date(),
  };
}
