import { digestAlgorithmOf, encodedOf, type Digest } from "../bytes/index.ts";
import { isIndexMediaType, parseIndex, parseManifest, type Descriptor } from "../oci/index.ts";

/** A manifest as a referrers list shows it, and the digest of its subject if it has one. */
export interface ReferrerFacts {
  readonly descriptor: Descriptor;
  readonly subject: Digest | undefined;
}

/**
 * A manifest as a referrers list shows it: artifactType is the manifest's own, else its configuration's media type;
 * annotations are the manifest's. Throws `ERR_MANIFEST_MALFORMED`.
 * Source: OCI distribution-spec, "Listing Referrers".
 */
export function asReferrer(target: Descriptor, bytes: Uint8Array): ReferrerFacts {
  const { mediaType, digest, size } = target;
  const isIndex = isIndexMediaType(mediaType);
  const document = isIndex ? parseIndex(bytes, mediaType) : parseManifest(bytes, mediaType);
  const artifactType = document.artifactType ?? ("config" in document ? document.config.mediaType : undefined);
  const { annotations } = document;
  return {
    descriptor: {
      mediaType,
      digest,
      size,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(annotations === undefined ? {} : { annotations }),
    },
    subject: document.subject?.digest,
  };
}

/**
 * The tag that lists a manifest's referrers where there is no referrers API.
 * Source: OCI distribution-spec, "Referrers Tag Schema".
 */
export function fallbackTagOf(subject: Digest): string {
  return `${digestAlgorithmOf(subject)}-${encodedOf(subject).slice(0, 64)}`;
}

/** The ends that cosign puts behind {@link fallbackTagOf} for a manifest's signatures, attestations and SBOM. */
export const companionSuffixes = [".sig", ".att", ".sbom"] as const;

/** Whether a tag holds what is said about another manifest: the referrers tag, or one of cosign's. */
export function isReferrersTag(name: string): boolean {
  return /^sha(?:256|384|512)-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?$/.test(name);
}
