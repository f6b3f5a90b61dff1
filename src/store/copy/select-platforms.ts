import { digestOf, type Digest } from "../../bytes/index.ts";
import {
  isAttestationManifest,
  isImageManifestMediaType,
  isIndexMediaType,
  mediaTypes,
  selectPlatform,
  serializeJson,
  type Descriptor,
  type ImageIndex,
  type Platform,
} from "../../oci/index.ts";
import { bytesStream } from "../bytes-stream.ts";
import type { CallOptions, ContentReader } from "../content-store.ts";
import { StoreError } from "../errors.ts";
import { readConfig, readIndex, readManifest } from "../read.ts";
import { markVerified } from "../verified-stream.ts";
import { graphLimits } from "./copy-graph.ts";

/** What to copy instead of the whole: a root, and a reader that also has the indexes made for it. */
export interface Selection {
  readonly from: ContentReader;
  readonly root: Descriptor;
}

/**
 * Narrows an image to platforms. One platform gives its manifest, whose digest and signatures stay what they are;
 * several give a new index of their entries, with the attestations (BuildKit) about them. Nested indexes are looked
 * into. An image without an index must be for the one platform that is asked for.
 *
 * Throws `ERR_PLATFORM_NOT_FOUND`, listing what there is; `ERR_STORE_LIMIT` for indexes nested too deep.
 */
export async function selectPlatforms(
  from: ContentReader,
  root: Descriptor,
  platforms: readonly Platform[],
  options: CallOptions = {},
): Promise<Selection> {
  if (platforms.length === 0) return { from, root };
  const leaves = await leavesOf(from, root, 0, options);
  const candidates: ImageIndex = { schemaVersion: 2, manifests: leaves };
  const chosen = new Map(platforms.map((wanted) => selectPlatform(candidates, wanted)).map((entry) => [entry.digest, entry]));
  const [only, ...others] = chosen.values();
  if (only !== undefined && others.length === 0) return { from, root: plain(only) };
  const made = new Map<Digest, Buffer>();
  const narrowed = await narrow(from, root, new Set(chosen.keys()), made, options);
  return narrowed === undefined ? { from, root } : { from: withDocuments(from, made), root: narrowed };
}

/** The image manifests below a root, each with the platform that its entry, or else its configuration, names. */
async function leavesOf(from: ContentReader, target: Descriptor, depth: number, options: CallOptions): Promise<readonly Descriptor[]> {
  if (depth > graphLimits.maxDepth)
    throw new StoreError("ERR_STORE_LIMIT", { message: `indexes are nested deeper than ${graphLimits.maxDepth}` });
  if (!isIndexMediaType(target.mediaType))
    return [target.platform === undefined ? await withConfigPlatform(from, target, options) : target];
  const { index } = await readIndex(from, target, options);
  const leaves: Descriptor[] = [];
  for (const entry of index.manifests) {
    if (isAttestationManifest(entry)) continue;
    if (isIndexMediaType(entry.mediaType) || isImageManifestMediaType(entry.mediaType))
      leaves.push(...(await leavesOf(from, entry, depth + 1, options)));
  }
  return leaves;
}

/** An artifact has no platform, and stays without one. */
async function withConfigPlatform(from: ContentReader, target: Descriptor, options: CallOptions): Promise<Descriptor> {
  const { manifest } = await readManifest(from, target, options);
  const { mediaType } = manifest.config;
  if (mediaType !== mediaTypes.config && mediaType !== mediaTypes.dockerConfig) return target;
  const { config } = await readConfig(from, manifest.config, options);
  const { os, architecture, variant } = config;
  return { ...target, platform: { os, architecture, ...(variant === undefined ? {} : { variant }) } };
}

/** The index with what was chosen only; the very same when that is all of it, `undefined` when nothing of it was. */
async function narrow(
  from: ContentReader,
  target: Descriptor,
  chosen: ReadonlySet<Digest>,
  made: Map<Digest, Buffer>,
  options: CallOptions,
): Promise<Descriptor | undefined> {
  const { index } = await readIndex(from, target, options);
  const entries: Descriptor[] = [];
  for (const entry of index.manifests) {
    if (isIndexMediaType(entry.mediaType)) {
      const inner = await narrow(from, entry, chosen, made, options);
      if (inner !== undefined) entries.push(inner);
    } else if (chosen.has(entry.digest) || isAbout(entry, chosen)) {
      entries.push(entry);
    }
  }
  if (entries.length === 0) return undefined;
  if (entries.length === index.manifests.length && entries.every((entry, i) => entry === index.manifests[i])) return target;
  const bytes = serializeJson({ ...index, manifests: entries });
  const digest = digestOf(bytes);
  made.set(digest, bytes);
  return { ...target, digest, size: bytes.length };
}

function isAbout(entry: Descriptor, chosen: ReadonlySet<Digest>): boolean {
  const subject = entry.annotations?.["vnd.docker.reference.digest"];
  return isAttestationManifest(entry) && subject !== undefined && [...chosen].some((digest) => digest === subject);
}

function plain({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

/** A reader that also has a few documents from memory. */
function withDocuments(from: ContentReader, documents: ReadonlyMap<Digest, Buffer>): ContentReader {
  return {
    name: from.name,
    resolve: (reference, options) => from.resolve(reference, options),
    fetch: async (target, options) => {
      const bytes = documents.get(target.digest);
      if (bytes === undefined) return from.fetch(target, options);
      const { range } = options ?? {};
      return range === undefined ? markVerified(bytesStream(bytes), target) : bytesStream(bytes.subarray(range.start, range.end));
    },
    exists: async (target, options) => documents.has(target.digest) || from.exists(target, options),
    // Nobody can have referred to an index that was made a moment ago.
    referrers: async (subject, filter) => (documents.has(subject.digest) ? [] : from.referrers(subject, filter)),
    tags: (options) => from.tags(options),
    localPath: (target) => from.localPath(target),
    close: () => from.close(),
  };
}
