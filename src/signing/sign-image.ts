import { isIndexMediaType, parseIndex, type Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { fetchManifestBytes } from "./content.ts";
import type { ImageSigner, SignedImage, SignRequest } from "./sign-request.ts";
import { writeBundle } from "./write-bundle.ts";
import { writeLegacySignature } from "./write-legacy.ts";

/**
 * Signs one manifest or index by its digest and stores the signature beside it. Signatures that are there are kept,
 * also those that other signers write at the same time.
 *
 * The bundle goes first: a cosign 3 that sees only a `.sig` still verifies, one that sees a bundle no longer looks at
 * the `.sig`, and each alone is a valid signature. Throws `ERR_SIGNATURE_NOT_KEPT` and what the store and the signer throw.
 */
export async function signImage(request: SignRequest, options: CallOptions = {}): Promise<SignedImage> {
  const bundle = request.format === "legacy" ? undefined : await writeBundle(request, options);
  const legacy =
    request.format === "bundle" || (request.format === "both" && !hasLegacyForm(request.signer))
      ? undefined
      : await writeLegacySignature(request, options);
  return {
    target: request.target,
    keyFingerprint: request.signer.kind === "key" ? request.signer.publicKey.fingerprint : undefined,
    legacy,
    bundle,
  };
}

/** A Rekor v2 entry has no place in the legacy format, and a certificate without log entry satisfies no verifier. */
function hasLegacyForm(signer: ImageSigner): boolean {
  return signer.services?.rekor?.majorApiVersion !== 2;
}

/**
 * Signs an index with every manifest under it, members first: who pulls a member by its own digest looks for a
 * signature of that digest. A plain manifest is signed alone. The last of the result is the target.
 */
export async function signImageTree(request: SignRequest, options: CallOptions = {}): Promise<readonly SignedImage[]> {
  const signed: SignedImage[] = [];
  for (const target of await treeOf(request.store, request.target, options)) signed.push(await signImage({ ...request, target }, options));
  return signed;
}

const maxDepth = 4;

/** Every manifest and index below an index, and itself last; each digest once. */
export async function treeOf(store: ContentReader, root: Descriptor, options: CallOptions): Promise<readonly Descriptor[]> {
  const seen = new Map<string, Descriptor>();
  const visit = async (target: Descriptor, depth: number): Promise<void> => {
    if (seen.has(target.digest)) return;
    if (isIndexMediaType(target.mediaType) && depth < maxDepth) {
      const { manifests } = parseIndex(await fetchManifestBytes(store, target, options), target.mediaType);
      for (const member of manifests) await visit(member, depth + 1);
    }
    seen.set(target.digest, target);
  };
  await visit(root, 0);
  return [...seen.values()];
}
