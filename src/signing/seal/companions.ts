import { isIndexMediaType, mediaTypes, parseManifest, serializeJson, type Descriptor, type ImageManifest } from "../../oci/index.ts";
import type { CallOptions, ContentReader, ContentStore } from "../../store/index.ts";
import { describe, fetchManifestBytes, pushBytes } from "../content.ts";
import { signatureTypes } from "../formats.ts";
import { attachmentTagOf, readLegacyManifest } from "../legacy-manifest.ts";
import { keepLayer } from "../write-legacy.ts";
import type { BoundReferrer } from "./predicate.ts";

/** What is said about an image beside it: its signatures, and everything else that refers to it. */
export interface Companions {
  /** Layers of its `.sig` tag; 0 when there is none. */
  readonly legacySignatures: number;
  /** Sigstore bundles: signatures and attestations. */
  readonly bundles: readonly Companion[];
  /** Everything else: SBOMs, scan results, provenance in other forms. */
  readonly others: readonly Companion[];
}

export interface Companion {
  readonly descriptor: Descriptor;
  readonly artifactType: string;
}

/**
 * Lists what stands beside an image, so that whoever makes another image of it can say what is left behind. Nothing is
 * verified. Throws what the store throws: a failing list is not an empty one.
 */
export async function listCompanions(store: ContentReader, target: Descriptor, options: CallOptions = {}): Promise<Companions> {
  const tag = attachmentTagOf(target.digest, "sig");
  const legacy = tag === undefined ? undefined : await readLegacyManifest(store, tag, options);
  const bundles: Companion[] = [];
  const others: Companion[] = [];
  for (const descriptor of await store.referrers(target, options)) {
    const companion = { descriptor, artifactType: await artifactTypeOf(store, descriptor, options) };
    (companion.artifactType.startsWith(signatureTypes.bundlePrefix) ? bundles : others).push(companion);
  }
  return { legacySignatures: legacy?.manifest.layers.length ?? 0, bundles, others };
}

/** The list's word is not taken: it is often the config's type instead. */
async function artifactTypeOf(store: ContentReader, descriptor: Descriptor, options: CallOptions): Promise<string> {
  if (isIndexMediaType(descriptor.mediaType)) return descriptor.artifactType ?? descriptor.mediaType;
  const { artifactType, config, layers } = await manifestOf(store, descriptor, options);
  const [layer] = layers;
  if (layer?.mediaType.startsWith(signatureTypes.bundlePrefix) === true) return layer.mediaType;
  return artifactType ?? (config.mediaType === mediaTypes.empty ? (layer?.mediaType ?? config.mediaType) : config.mediaType);
}

async function manifestOf(store: ContentReader, descriptor: Descriptor, options: CallOptions): Promise<ImageManifest> {
  return parseManifest(await fetchManifestBytes(store, descriptor, options), descriptor.mediaType);
}

export interface FollowRequest {
  readonly source: ContentReader;
  /** The image at the source. */
  readonly from: Descriptor;
  readonly destination: ContentStore;
}

/**
 * Copies the signatures of a source image, unchanged and under its own digest, into another repository: `.sig` and
 * bundles. There they verify the plaintext digest although that manifest is not there (measured with cosign 2.5), so a
 * guest can check who built what it decrypted. Signatures that are at the destination are kept.
 */
export async function keepSourceSignatures(
  { source, from, destination }: FollowRequest,
  options: CallOptions = {},
): Promise<{ readonly legacy: number; readonly bundles: number }> {
  const tag = attachmentTagOf(from.digest, "sig");
  const legacy = tag === undefined ? undefined : await readLegacyManifest(source, tag, options);
  const layers = legacy?.manifest.layers ?? [];
  for (const layer of layers) {
    await copyBlob(source, destination, layer, options);
    if (tag !== undefined) await keepLayer({ store: destination, tag, layer, outcome: "added" }, options);
  }
  const { bundles } = await listCompanions(source, from, options);
  for (const { descriptor } of bundles) await copyManifest(source, destination, descriptor, options);
  return { legacy: layers.length, bundles: bundles.length };
}

export interface RebindRequest extends FollowRequest {
  /** The image at the destination that was made from `from`. */
  readonly to: Descriptor;
  /** Which of {@link listCompanions} come along. They lie in the clear beside the sealed image. */
  readonly companions: readonly Companion[];
}

/**
 * Lets SBOMs and provenance follow to an image that was made from theirs. A bundle is a signed statement about the
 * plaintext digest and cannot be changed: it is copied under that digest. Anything else gets a manifest of its own whose
 * subject is the new image. What was done belongs into {@link SealFacts.referrers}, whose signature binds it.
 */
export async function rebindReferrers(
  { source, destination, to, companions }: RebindRequest,
  options: CallOptions = {},
): Promise<readonly BoundReferrer[]> {
  const bound: BoundReferrer[] = [];
  for (const { descriptor, artifactType } of companions) {
    const isBundle = artifactType.startsWith(signatureTypes.bundlePrefix) || isIndexMediaType(descriptor.mediaType);
    const result = isBundle
      ? await copyManifest(source, destination, descriptor, options)
      : await rebind(source, destination, descriptor, to, options);
    bound.push({ artifactType, source: descriptor.digest, bound: result.digest });
  }
  return bound;
}

async function rebind(
  source: ContentReader,
  destination: ContentStore,
  descriptor: Descriptor,
  to: Descriptor,
  options: CallOptions,
): Promise<Descriptor> {
  const manifest = await manifestOf(source, descriptor, options);
  for (const blob of [manifest.config, ...manifest.layers]) await copyBlob(source, destination, blob, options);
  const bytes = serializeJson({ ...manifest, subject: { mediaType: to.mediaType, digest: to.digest, size: to.size } });
  const result = describe(descriptor.mediaType, bytes);
  await pushBytes(destination, result, bytes, options);
  return result;
}

async function copyManifest(
  source: ContentReader,
  destination: ContentStore,
  descriptor: Descriptor,
  options: CallOptions,
): Promise<Descriptor> {
  const bytes = await fetchManifestBytes(source, descriptor, options);
  if (!isIndexMediaType(descriptor.mediaType)) {
    const { config, layers } = parseManifest(bytes, descriptor.mediaType);
    for (const blob of [config, ...layers]) await copyBlob(source, destination, blob, options);
  }
  const { mediaType, digest, size } = descriptor;
  await pushBytes(destination, { mediaType, digest, size }, bytes, options);
  return descriptor;
}

async function copyBlob(
  source: ContentReader,
  destination: ContentStore,
  { mediaType, digest, size }: Descriptor,
  options: CallOptions,
): Promise<void> {
  const target = { mediaType, digest, size };
  await destination.push(target, async () => await source.fetch(target, options), options);
}
