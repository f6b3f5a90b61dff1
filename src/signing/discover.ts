import { parseManifest, type Annotations, type Descriptor, type ImageManifest } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { fetchBytes, fetchManifestBytes } from "./content.ts";
import { describeFailure, type Unreadable } from "./failure.ts";
import { signatureLimits, signatureTypes } from "./formats.ts";
import { attachmentTagOf, readLegacyManifest } from "./legacy-manifest.ts";

/** A signature as it lies in the store, before anything about it is believed. */
export type Candidate = LegacyCandidate | BundleCandidate;

export interface LegacyCandidate {
  readonly kind: "legacy";
  /** For the report: `tag sha256-….sig, layer 2`. */
  readonly location: string;
  readonly payload: Descriptor;
  readonly annotations: Annotations;
}

export interface BundleCandidate {
  readonly kind: "bundle";
  readonly location: string;
  readonly manifest: Descriptor;
  readonly bundleLayer: Descriptor;
}

export interface Discovery {
  readonly candidates: readonly Candidate[];
  readonly unreadable: readonly Unreadable[];
  /** How many more there are than is examined. */
  readonly leftOut: number;
}

export interface DiscoverRequest {
  readonly store: ContentReader;
  readonly target: Descriptor;
  readonly formats: readonly ("legacy" | "legacy-referrer" | "bundle")[];
}

/**
 * Everything that may be a signature of the target: the layers of its `.sig` tag, and its referrers, whatever the list
 * says they are: go-containerregistry and several registries put the config's media type where the artifact type
 * belongs. A failing list is an error, never "no signatures".
 */
export async function discover({ store, target, formats }: DiscoverRequest, options: CallOptions): Promise<Discovery> {
  const legacy = formats.includes("legacy") ? await discoverLegacy(store, target, options) : empty;
  const readsReferrers = formats.includes("bundle") || formats.includes("legacy-referrer");
  const referrers = readsReferrers ? await discoverReferrers({ store, target, formats }, options) : empty;
  return {
    candidates: [...legacy.candidates, ...referrers.candidates],
    unreadable: [...legacy.unreadable, ...referrers.unreadable],
    leftOut: legacy.leftOut + referrers.leftOut,
  };
}

/** Reads the bundle of a candidate. */
export async function readBundle(store: ContentReader, { bundleLayer }: BundleCandidate, options: CallOptions): Promise<Buffer> {
  return await fetchBytes(store, bundleLayer, signatureLimits.maxBundleBytes, options);
}

const empty: Discovery = { candidates: [], unreadable: [], leftOut: 0 };

async function discoverLegacy(store: ContentReader, target: Descriptor, options: CallOptions): Promise<Discovery> {
  const tag = attachmentTagOf(target.digest, "sig");
  if (tag === undefined) return empty;
  const location = `tag ${tag}`;
  let found;
  try {
    found = await readLegacyManifest(store, tag, options);
  } catch (error) {
    // A foreign or broken document under the tag must not hide a bundle; a failing registry is remembered.
    return { ...empty, unreadable: [describeFailure(location, error)] };
  }
  return found === undefined ? empty : legacyLayersOf(found.manifest, location);
}

function legacyLayersOf({ layers }: ImageManifest, location: string): Discovery {
  const candidates = layers.slice(0, signatureLimits.maxLayers).map((layer, i): LegacyCandidate => ({
    kind: "legacy",
    location: `${location}, layer ${i}`,
    payload: layer,
    annotations: layer.annotations ?? {},
  }));
  return { candidates, unreadable: [], leftOut: layers.length - candidates.length };
}

async function discoverReferrers({ store, target, formats }: DiscoverRequest, options: CallOptions): Promise<Discovery> {
  const listed = await store.referrers(target, options);
  const examined = listed.slice(0, signatureLimits.maxReferrers);
  const parts = await mapLimited(examined, signatureLimits.concurrency, async (referrer): Promise<Discovery> => {
    const location = `referrer ${referrer.digest}`;
    try {
      const manifest = parseManifest(await fetchManifestBytes(store, referrer, options), referrer.mediaType);
      // The list is only a hint: what counts is the subject inside the verified bytes.
      if (manifest.subject?.digest !== target.digest)
        return { ...empty, unreadable: [{ location, reason: "its subject is another manifest", failure: undefined }] };
      return classify(manifest, referrer, location, formats);
    } catch (error) {
      return { ...empty, unreadable: [describeFailure(location, error)] };
    }
  });
  return {
    candidates: parts.flatMap(({ candidates }) => candidates),
    unreadable: parts.flatMap(({ unreadable }) => unreadable),
    leftOut: listed.length - examined.length + parts.reduce((sum, { leftOut }) => sum + leftOut, 0),
  };
}

function classify(manifest: ImageManifest, referrer: Descriptor, location: string, formats: DiscoverRequest["formats"]): Discovery {
  if (manifest.config.mediaType === signatureTypes.legacyReferrerConfig) {
    return formats.includes("legacy-referrer") ? legacyLayersOf(manifest, location) : empty;
  }
  const [first, ...more] = manifest.layers;
  if (first === undefined || !first.mediaType.startsWith(signatureTypes.bundlePrefix)) return empty;
  if (!formats.includes("bundle")) return empty;
  if (more.length > 0)
    return { ...empty, unreadable: [{ location, reason: "holds more than one layer beside its bundle", failure: undefined }] };
  return { ...empty, candidates: [{ kind: "bundle", location, manifest: referrer, bundleLayer: first }] };
}

/** Maps in order with a bounded number of calls at a time. */
export async function mapLimited<In, Out>(items: readonly In[], limit: number, map: (item: In) => Promise<Out>): Promise<readonly Out[]> {
  const results: Out[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await map(items[i] as In);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, work));
  return results;
}
