import type { Annotations, Descriptor } from "../oci/index.ts";
import type { ContentStore } from "../store/index.ts";
import type { KeylessSigner } from "./keyless/keyless-signer.ts";
import type { KeySigner } from "./keys/signer.ts";

/** `both` is what every verifier finds something in: skopeo, podman and CoCo guests read `.sig`, cosign 3 the bundle. */
export type SignatureFormat = "both" | "legacy" | "bundle";

/** Who signs: a key, or whoever an identity token names. */
export type ImageSigner = KeySigner | KeylessSigner;

export interface SignRequest {
  readonly store: ContentStore;
  /** The manifest or index that is signed, by its digest. */
  readonly target: Descriptor;
  /** Where users pull it: `host[:port]/repository`, without tag and digest. Only the legacy format carries it. */
  readonly reference: string;
  readonly signer: ImageSigner;
  readonly format: SignatureFormat;
  /** Signed with the image; `-a key=value` of cosign. */
  readonly annotations?: Annotations | undefined;
  /** Where signatures are kept, when not beside the image (COSIGN_REPOSITORY). */
  readonly signatureStore?: ContentStore | undefined;
  /** Written into the bundle's manifest as `created`. */
  readonly now: Date;
}

/** Whether the signature was added, or one of the same key over the same claims was there already. */
export type KeepOutcome = "added" | "present";

export interface LegacyReceipt {
  readonly tag: string;
  readonly manifest: Descriptor;
  readonly outcome: KeepOutcome;
}

export interface BundleReceipt {
  readonly manifest: Descriptor;
  readonly outcome: KeepOutcome;
}

export interface SignedImage {
  readonly target: Descriptor;
  /** SHA-256 of the SubjectPublicKeyInfo, hex; `undefined` without a key of one's own. */
  readonly keyFingerprint: string | undefined;
  readonly legacy: LegacyReceipt | undefined;
  readonly bundle: BundleReceipt | undefined;
}
