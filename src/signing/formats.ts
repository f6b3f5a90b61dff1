/**
 * Names that cosign, skopeo and the Sigstore clients agreed on, and our limits on what they wrote.
 *
 * Source: sigstore/cosign specs/SIGNATURE_SPEC.md and specs/BUNDLE_SPEC.md, as measured with cosign 2.5 and 3.1.
 */
export const signatureTypes = {
  /** Layer of a `.sig` manifest: the payload that is signed. */
  simpleSigning: "application/vnd.dev.cosign.simplesigning.v1+json",
  /** Config of the OCI 1.1 variant of the legacy format. Read, never written. */
  legacyReferrerConfig: "application/vnd.dev.cosign.artifact.sig.v1+json",
  bundle: "application/vnd.dev.sigstore.bundle.v0.3+json",
  /** Every version of the bundle begins so. */
  bundlePrefix: "application/vnd.dev.sigstore.bundle",
  dsseEnvelope: "application/vnd.dsse.envelope.v1+json",
  inToto: "application/vnd.in-toto+json",
} as const;

/** Annotations of a layer in a `.sig` or `.att` manifest. */
export const legacyAnnotations = {
  signature: "dev.cosignproject.cosign/signature",
  certificate: "dev.sigstore.cosign/certificate",
  chain: "dev.sigstore.cosign/chain",
  bundle: "dev.sigstore.cosign/bundle",
  timestamp: "dev.sigstore.cosign/rfc3161timestamp",
} as const;

/** Annotations of a manifest that holds a bundle. They help humans to look; verification never reads them. */
export const bundleAnnotations = {
  content: "dev.sigstore.bundle.content",
  predicateType: "dev.sigstore.bundle.predicateType",
  created: "org.opencontainers.image.created",
} as const;

/** The predicate type that makes a statement an image signature; anything else is an attestation. */
export const signaturePredicate = "https://sigstore.dev/cosign/sign/v1";

/** The only `critical.type` that skopeo and we accept. */
export const payloadType = "cosign container image signature";

/** Bounds on what a stranger with push rights may put beside an image. */
export const signatureLimits = {
  /** Source: cosign's own limit on the layers of a `.sig` manifest. */
  maxLayers: 1000,
  /** Referrers whose manifests are read. */
  maxReferrers: 2000,
  maxPayloadBytes: 1024 * 1024,
  maxBundleBytes: 16 * 1024 * 1024,
  /** All payloads and bundles of one image together. */
  maxTotalBytes: 64 * 1024 * 1024,
  /** Manifests and blobs read at a time. */
  concurrency: 8,
} as const;
