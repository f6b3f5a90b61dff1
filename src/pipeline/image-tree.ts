import {
  formatPlatform,
  OciError,
  isAttestationManifest,
  isIndexMediaType,
  isManifestMediaType,
  platformDistance,
  type Descriptor,
  type ImageIndex,
  type ImageManifest,
  type Platform,
} from "../oci/index.ts";
import { isEncryptedMediaType, isSealableMediaType } from "../layer/index.ts";
import { readIndex, readManifest, type ContentStore, type ReadOptions } from "../store/index.ts";
import { PipelineError } from "./errors.ts";

/** An image as it hangs together: an index with what it names, or one manifest. */
export type ImageNode = IndexNode | ManifestNode | OpaqueNode;

export interface IndexNode {
  readonly kind: "index";
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly index: ImageIndex;
  readonly children: readonly ImageNode[];
}

export interface ManifestNode {
  readonly kind: "image";
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly manifest: ImageManifest;
  readonly platform: Platform | undefined;
}

/** Carried along as it is: BuildKit's attestation manifests, and entries of types that are not images. */
export interface OpaqueNode {
  readonly kind: "opaque";
  readonly descriptor: Descriptor;
}

const limits = { depth: 8, nodes: 2000 } as const;

export interface TreeRequest {
  readonly store: ContentStore;
  readonly root: Descriptor;
  /** Only these platforms; all when empty. A wanted platform that is missing is an error. */
  readonly platforms?: readonly Platform[] | undefined;
}

/** Reads the manifests of an image, verified. Throws `ERR_PLATFORM_NOT_FOUND`, `ERR_IMAGE_TOO_DEEP`, and what reading throws. */
export async function readImageTree(request: TreeRequest, options: ReadOptions = {}): Promise<ImageNode> {
  const { store, root, platforms = [] } = request;
  let nodes = 0;
  const found = new Set<Platform>();

  const visit = async (descriptor: Descriptor, depth: number): Promise<ImageNode> => {
    nodes += 1;
    if (depth > limits.depth || nodes > limits.nodes) {
      throw new PipelineError("ERR_IMAGE_TOO_DEEP", {
        message: `${store.name} nests indexes deeper than ${limits.depth}, or names more than ${limits.nodes} manifests`,
        hint: "work on one of its parts by digest",
      });
    }
    if (isIndexMediaType(descriptor.mediaType)) {
      const { bytes, index } = await readIndex(store, descriptor, options);
      const children: ImageNode[] = [];
      const images = index.manifests.filter((entry) => isAttestationManifest(entry) || wanted(entry));
      const about = new Set(images.filter((entry) => !isAttestationManifest(entry)).map(({ digest }) => digest as string));
      for (const entry of images) {
        // An attestation goes where its image goes.
        const image = entry.annotations?.[referenceDigest];
        const goes = platforms.length === 0 || !isAttestationManifest(entry) || (image !== undefined && about.has(image));
        if (goes) children.push(await visit(entry, depth + 1));
      }
      return { kind: "index", descriptor, bytes, index, children };
    }
    if (!isManifestMediaType(descriptor.mediaType)) return { kind: "opaque", descriptor };
    const { bytes, manifest } = await readManifest(store, descriptor, options);
    // Whoever is called an attestation and holds layers of an image is one: it must not stay plain for its name.
    const named = isAttestationManifest(descriptor) && !manifest.layers.some(isImageLayer);
    return named ? { kind: "opaque", descriptor } : { kind: "image", descriptor, bytes, manifest, platform: descriptor.platform };
  };

  const wanted = (entry: Descriptor): boolean => {
    if (platforms.length === 0 || isIndexMediaType(entry.mediaType)) return true;
    if (entry.platform === undefined) return false;
    const platform = entry.platform;
    const matching = platforms.filter((want) => platformDistance(platform, want) === 0);
    for (const want of matching) found.add(want);
    return matching.length > 0;
  };

  const tree = await visit(root, 0);
  const missing = tree.kind === "index" ? platforms.filter((want) => !found.has(want)) : [];
  if (missing.length > 0) {
    throw new OciError("ERR_PLATFORM_NOT_FOUND", {
      message: `${store.name} has no image for ${missing.map((platform) => formatPlatform(platform)).join(", ")}`,
      hint: "ociseal inspect lists the platforms that there are",
    });
  }
  return tree;
}

/** BuildKit's annotation of an attestation: the manifest that it is about. Source: BuildKit, `docs/attestations/attestation-storage.md`. */
export const referenceDigest = "vnd.docker.reference.digest";

function isImageLayer({ mediaType }: Descriptor): boolean {
  return isSealableMediaType(mediaType) || isEncryptedMediaType(mediaType);
}

/** All image manifests of a tree, in order, each once. */
export function imagesOf(tree: ImageNode): readonly ManifestNode[] {
  const seen = new Map<string, ManifestNode>();
  const visit = (node: ImageNode): void => {
    switch (node.kind) {
      case "index":
        for (const child of node.children) visit(child);
        break;
      case "image":
        if (!seen.has(node.descriptor.digest)) seen.set(node.descriptor.digest, node);
        break;
      case "opaque":
        break;
    }
  };
  visit(tree);
  return [...seen.values()];
}

/** How to call a manifest in messages and reports: its platform, else the start of its digest. */
export function labelOf(node: ManifestNode): string {
  return node.platform === undefined ? node.descriptor.digest.slice(0, 19) : formatPlatform(node.platform);
}
