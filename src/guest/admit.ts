import { isIndexMediaType, type Descriptor, type Platform } from "../oci/index.ts";
import {
  acceptUnsigned,
  SigningError,
  verifyImage,
  type ClaimRequirement,
  type VerifiedSignature,
  type VerifyRequest,
} from "../signing/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { selectManifest } from "./open-image.ts";

/** Who must vouch for an image before anything of it is opened. */
export type Verification =
  | {
      readonly kind: "signature";
      /** Keys, identities, or a policy file's rules. */
      readonly requirement: VerifyRequest["requirement"];
      readonly claims?: ClaimRequirement | undefined;
      /** Where signatures are kept, when not beside the image. */
      readonly signatureStore?: ContentReader | undefined;
    }
  /** Nobody: said aloud by whoever calls. */
  | { readonly kind: "insecure-accept-unsigned" };

const admitted: unique symbol = Symbol("admitted");

/**
 * Proof that an image may be opened here. Only {@link admitImage} makes one; whoever asks for keys takes it as a
 * parameter, so no key is asked for an image that nobody vouches for.
 */
export interface AdmittedImage {
  /** What the reference named: a manifest or an index. */
  readonly target: Descriptor;
  /** The image manifest that was chosen from it. */
  readonly manifest: Descriptor;
  /** Who vouched for one of the two, or that the caller wanted nobody to. */
  readonly signature: VerifiedSignature;
  readonly [admitted]: true;
}

export interface AdmitRequest {
  readonly store: ContentReader;
  readonly reference: string | undefined;
  readonly verification: Verification;
  /** Chooses from an index, the host's unless told; when told, a single image must suit it too. */
  readonly platform?: Platform | undefined;
}

/**
 * Resolves a reference and asks for who vouches: for the image named first, then, if that is an index that nobody vouches
 * for, for the manifest chosen from it. Throws `ERR_SIGNATURE_*`, `ERR_POLICY_*`, `ERR_PLATFORM_NOT_FOUND`.
 */
export async function admitImage(request: AdmitRequest, options: CallOptions = {}): Promise<AdmittedImage> {
  const { store, verification } = request;
  const target = await store.resolve(request.reference, options);
  const first = await attempt(() => judge(verification, store, target, options));
  // An index that nobody vouches for may hold images that somebody does: what runs is the manifest, which then must
  // satisfy the whole requirement by itself. A failure that is not a verdict is final.
  const mayDescend = isIndexMediaType(target.mediaType) && first.kind === "failed" && first.error instanceof SigningError;
  if (first.kind === "failed" && !mayDescend) throw first.error;
  const manifest = await selectManifest(store, target, request.platform, options);
  if (first.kind === "done") return { target, manifest, signature: first.value, [admitted]: true };
  const second = await attempt(() => judge(verification, store, manifest, options));
  if (second.kind === "failed") throw first.error;
  return { target, manifest, signature: second.value, [admitted]: true };
}

async function judge(
  verification: Verification,
  store: ContentReader,
  target: Descriptor,
  options: CallOptions,
): Promise<VerifiedSignature> {
  switch (verification.kind) {
    case "signature": {
      const { requirement, claims, signatureStore } = verification;
      return await verifyImage({ store, target, requirement, claims, signatureStore }, options);
    }
    case "insecure-accept-unsigned":
      return acceptUnsigned(target);
  }
}

type Attempt<T> = { readonly kind: "done"; readonly value: T } | { readonly kind: "failed"; readonly error: unknown };

async function attempt<T>(work: () => Promise<T>): Promise<Attempt<T>> {
  try {
    return { kind: "done", value: await work() };
  } catch (error) {
    return { kind: "failed", error };
  }
}
