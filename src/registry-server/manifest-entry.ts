import { digestOf, type Digest } from "../bytes/index.ts";
import { isIndexMediaType, parseIndex, parseManifest, type Descriptor } from "../oci/index.ts";
import type { ManifestEntry } from "./catalog.ts";

/** A manifest as the registry needs it: its entry, and what it names. */
export interface ManifestFacts {
  readonly entry: ManifestEntry;
  /** Configuration and layers that must be in the repository. */
  readonly blobs: readonly Descriptor[];
  /** Manifests that an index lists. */
  readonly manifests: readonly Descriptor[];
}

/**
 * Reads a manifest of one of the four supported types. Throws the parser's error for anything else, for a document that
 * calls itself something else, and for one with both shapes (CVE-2021-41190).
 */
export function describeManifest(bytes: Buffer, mediaType: string, digest: Digest = digestOf(bytes)): ManifestFacts {
  if (isIndexMediaType(mediaType)) {
    const index = parseIndex(bytes, mediaType);
    return {
      entry: {
        mediaType,
        digest,
        size: bytes.length,
        subject: index.subject?.digest,
        artifactType: nonEmpty(index.artifactType),
        annotations: index.annotations,
        children: index.manifests.map((child) => child.digest),
      },
      blobs: [],
      manifests: index.manifests,
    };
  }
  const manifest = parseManifest(bytes, mediaType);
  return {
    entry: {
      mediaType,
      digest,
      size: bytes.length,
      subject: manifest.subject?.digest,
      // Source: OCI distribution-spec, "Listing Referrers".
      artifactType: nonEmpty(manifest.artifactType) ?? manifest.config.mediaType,
      annotations: manifest.annotations,
      children: [],
    },
    blobs: [manifest.config, ...manifest.layers.filter((layer) => !isElsewhere(layer))],
    manifests: [],
  };
}

/** Layers that may not be distributed lie at their `urls`. Source: OCI image-spec, layer.md, "Non-Distributable Layers". */
function isElsewhere(layer: Descriptor): boolean {
  return (layer.urls?.length ?? 0) > 0 || layer.mediaType.includes(".nondistributable.") || layer.mediaType.includes(".foreign.");
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
