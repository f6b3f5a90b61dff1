import {
  checkManifestSize,
  isAttestationManifest,
  isManifestMediaType,
  mediaTypes,
  serializeJson,
  type Descriptor,
  type ImageIndex,
  type ImageManifest,
} from "../oci/index.ts";
import { digestOf } from "../bytes/index.ts";
import { bytesStream, copyGraph, type CallOptions, type ContentStore, type CopyEvent } from "../store/index.ts";
import { referenceDigest, type ImageNode, type IndexNode, type ManifestNode } from "./image-tree.ts";

/** A manifest made anew, or `undefined` to carry the old one along byte for byte. */
export type ManifestRewriter = (node: ManifestNode) => Promise<ImageManifest | undefined>;

export interface RebuildRequest {
  readonly from: ContentStore;
  readonly to: ContentStore;
  readonly tree: ImageNode;
  /** Stores the blobs of the manifest that it returns; those of an unchanged one are copied. */
  readonly rewrite: ManifestRewriter;
  readonly onProgress?: ((event: CopyEvent) => void) | undefined;
}

/**
 * Writes an image whose manifests changed: blobs, then manifests, then the indexes that name them; no tag. Bytes that
 * did not change are kept as they are, since their digest is of the exact bytes. Returns the new root.
 */
export async function rebuildImage(request: RebuildRequest, options: CallOptions = {}): Promise<Descriptor> {
  const { from, to, rewrite, onProgress } = request;
  const written = new Map<string, Descriptor>();

  const carry = async (descriptor: Descriptor): Promise<Descriptor> => {
    if (isManifestMediaType(descriptor.mediaType)) {
      await copyGraph({ from, to, root: descriptor, ...progressOf(onProgress), ...options });
    } else {
      await to.push(descriptor, () => from.fetch(descriptor, options), options);
    }
    return descriptor;
  };

  const writeManifest = async (node: ManifestNode): Promise<Descriptor> => {
    const known = written.get(node.descriptor.digest);
    if (known !== undefined) return merge(node.descriptor, known);
    const manifest = await rewrite(node);
    const result = manifest === undefined ? await carry(node.descriptor) : await writeDocument(to, node.descriptor, manifest, options);
    written.set(node.descriptor.digest, result);
    return result;
  };

  const writeIndex = async (node: IndexNode): Promise<Descriptor> => {
    const entries: Descriptor[] = [];
    for (const child of node.children) entries.push(await write(child));
    const manifests = rebindAttestations(node.children, entries);
    const unchanged = manifests.length === node.index.manifests.length && manifests.every((entry, i) => entry === node.index.manifests[i]);
    if (!unchanged) return writeDocument(to, node.descriptor, { ...node.index, manifests }, options);
    await to.push(node.descriptor, async () => bytesStream(node.bytes), options);
    return node.descriptor;
  };

  const write = (node: ImageNode): Promise<Descriptor> => {
    switch (node.kind) {
      case "index":
        return writeIndex(node);
      case "image":
        return writeManifest(node);
      case "opaque":
        return carry(node.descriptor);
    }
  };

  return write(request.tree);
}

/** BuildKit finds the image that an attestation is about by digest; after a rewrite it must find the new one. */
function rebindAttestations(children: readonly ImageNode[], entries: readonly Descriptor[]): readonly Descriptor[] {
  const moved = new Map(children.map((child, i) => [child.descriptor.digest as string, entries[i]?.digest]));
  return entries.map((entry) => {
    const about = entry.annotations?.[referenceDigest];
    const now = about === undefined ? undefined : moved.get(about);
    if (!isAttestationManifest(entry) || now === undefined || now === about) return entry;
    return { ...entry, annotations: { ...entry.annotations, [referenceDigest]: now } };
  });
}

/** The same image in two index entries keeps what each entry says about it. */
function merge(entry: Descriptor, { mediaType, digest, size }: Descriptor): Descriptor {
  const { data: _data, ...rest } = entry;
  return { ...rest, mediaType, digest, size };
}

async function writeDocument(
  to: ContentStore,
  old: Descriptor,
  document: ImageManifest | ImageIndex,
  options: CallOptions,
): Promise<Descriptor> {
  const mediaType = "layers" in document ? mediaTypes.manifest : mediaTypes.index;
  // Encrypted layers have no Docker form, so what changed is written as OCI.
  const typed = document.mediaType === undefined ? document : { ...document, mediaType };
  const bytes = serializeJson(typed);
  checkManifestSize({ size: bytes.length, layers: 0, recipients: 0 });
  const target = merge(old, { mediaType, digest: digestOf(bytes), size: bytes.length });
  await to.push(target, async () => bytesStream(bytes), options);
  return target;
}

function progressOf(onProgress: ((event: CopyEvent) => void) | undefined): { readonly onProgress?: (event: CopyEvent) => void } {
  return onProgress === undefined ? {} : { onProgress };
}
