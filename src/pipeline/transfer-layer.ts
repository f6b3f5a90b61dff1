import { closeStream, compose, observeBytes, type ByteStage, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import type { BlobOpener, LayerSource } from "../cipher/index.ts";
import { InternalError, ToolError } from "../errors/index.ts";
import {
  openToFile,
  padLayer,
  paddedSize,
  sealToFile,
  sealToStream,
  sealLayer,
  type LayerSealing,
  type OpenedLayer,
  type PlainLayer,
  type SealRequest,
} from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentStore, CopyEvent, LayoutStore } from "../store/index.ts";

export interface LayerTransfer {
  readonly from: ContentStore;
  readonly to: ContentStore;
  readonly onProgress?: ((event: CopyEvent) => void) | undefined;
}

const maxAttempts = 3;

export interface SealTransfer extends SealRequest {
  readonly layer: Descriptor;
  /** `padme` hides the exact size: padding goes inside the compressed stream, so the diffID stays. */
  readonly padding?: "none" | "padme" | undefined;
}

/** Encrypts one layer on its way from store to store. Returns the sealed layer's descriptor, and the digest of what was encrypted. */
export async function transferSealed(
  transfer: LayerTransfer,
  request: SealTransfer,
  options: CallOptions,
): Promise<{ readonly sealed: Descriptor; readonly plaintext: Digest }> {
  const { from } = transfer;
  const { layer, padding = "none" } = request;
  let bytes: "unchecked" | "checked" = request.convergentSecret === undefined ? "checked" : "unchecked";
  return retrying(transfer, layer, options, async () => {
    if (bytes === "unchecked") await readWhole(from, layer, options);
    bytes = "checked";
    // Each attempt has a key and a nonce of its own: what was sent before must never meet another plaintext.
    const sealing = await sealLayer(padding === "padme" ? { ...request, layer: padded(layer) } : request, options);
    const sealed = await sealTo(transfer, sealing, { layer, padding }, options);
    return { sealed, plaintext: sealing.plaintext() };
  });
}

async function sealTo(
  transfer: LayerTransfer,
  sealing: LayerSealing,
  { layer, padding }: Pick<SealTransfer, "layer" | "padding">,
  options: CallOptions,
): Promise<Descriptor> {
  const { from, to } = transfer;
  if (padding === "padme") {
    const source = await from.fetch(layer, options);
    const ciphertext = compose(source, observed(transfer, layer), padLayer(layer.mediaType, layer.size), sealing.stage);
    return sealing.finish(await ingest(to, ciphertext, { size: sealing.size, address: sealing.address }, options));
  }
  if (stages(to)) {
    const work = async (files: StagedWork): Promise<Descriptor> =>
      sealToFile(sealing, { source: await sourceOf(from, layer, options), ...files });
    return staged(transfer, layer, to, options, work);
  }
  const source = await sourceOf(from, layer, options);
  const progress = progressOf(transfer, layer);
  const { stream, address } = sealToStream(sealing, { source, progress, signal: options.signal });
  return sealing.finish(await ingest(to, stream, { size: sealing.size, address }, options));
}

/** The file of a local layer, else its stream. */
async function sourceOf(from: ContentStore, layer: Descriptor, options: CallOptions): Promise<LayerSource> {
  const path = from.localPath(layer);
  return path === undefined ? { verified: await from.fetch(layer, options) } : { path };
}

/**
 * Reads a layer for nothing but its digest. Convergent encryption derives key and nonce from it: if they ever met other
 * bytes than the digest's, both texts and the key of the MAC would be open. So the bytes are known before the first is
 * encrypted. Throws `ERR_CONTENT_DIGEST_MISMATCH` and its kin.
 */
async function readWhole(from: ContentStore, layer: Descriptor, options: CallOptions): Promise<void> {
  for await (const _ of await from.fetch(layer, options)) options.signal?.throwIfAborted();
}

/** What the layer becomes: larger, and of a digest that is known at its end. */
function padded({ mediaType, size, annotations }: Descriptor): PlainLayer {
  return { mediaType, size: paddedSize(mediaType, size), annotations };
}

export interface OpenTransfer {
  readonly layer: Descriptor;
  /** The layer with its key at hand. */
  readonly opened: OpenedLayer;
  /** Judges what the plaintext uncompresses to; throws. */
  readonly checkDiffId: (diffId: Digest) => void;
}

/** Decrypts one layer on its way from store to store. Returns the plain layer's descriptor. */
export async function transferOpened(transfer: LayerTransfer, request: OpenTransfer, options: CallOptions): Promise<Descriptor> {
  const { from, to } = transfer;
  const { layer, opened, checkDiffId } = request;
  return retrying(transfer, layer, options, async () => {
    if (stages(to)) {
      return staged(transfer, layer, to, options, async (files) => {
        const source = await sourceOf(from, layer, options);
        const { plaintext, diffId } = await openToFile(opened, { source, ...files });
        checkDiffId(diffId);
        return opened.plainDescriptor(plaintext);
      });
    }
    let found: ContentAddress | undefined;
    const open: BlobOpener = (range) => from.fetch(layer, range === undefined ? options : { ...options, range });
    const plaintext = await opened.openChecked(open, (content) => {
      checkDiffId(content.diffId);
      found = content.plaintext;
    });
    const address = (): ContentAddress => {
      if (found === undefined) throw new InternalError({ message: "a decrypted layer was stored before it was checked" });
      return found;
    };
    await ingest(to, compose(plaintext, observed(transfer, layer)), { size: opened.size, address }, options);
    return opened.plainDescriptor(address());
  });
}

/** A destination that takes files: the way without copies, on two threads. */
function stages(store: ContentStore): store is LayoutStore {
  return "stageBlob" in store;
}

interface StagedWork {
  readonly targetPath: string;
  readonly progress: (size: number) => void;
  readonly signal: AbortSignal | undefined;
}

async function staged(
  transfer: LayerTransfer,
  layer: Descriptor,
  to: LayoutStore,
  { signal }: CallOptions,
  work: (files: StagedWork) => Promise<Descriptor>,
): Promise<Descriptor> {
  const blob = await to.stageBlob();
  try {
    const result = await work({ targetPath: blob.path, progress: progressOf(transfer, layer), signal });
    await blob.commit(result);
    return result;
  } finally {
    await blob.discard();
  }
}

async function ingest(
  to: ContentStore,
  stream: ByteStream,
  { size, address }: { readonly size: number | undefined; readonly address: (() => ContentAddress) | undefined },
  options: CallOptions,
): Promise<ContentAddress> {
  try {
    return await to.ingest(stream, { ...options, address, ...(size === undefined ? {} : { size }) });
  } finally {
    await closeStream(stream);
  }
}

function progressOf({ onProgress }: LayerTransfer, descriptor: Descriptor): (size: number) => void {
  return (size) => onProgress?.({ kind: "moved", descriptor, size });
}

function observed(transfer: LayerTransfer, descriptor: Descriptor): ByteStage {
  return observeBytes(progressOf(transfer, descriptor));
}

async function retrying<Result>(
  transfer: LayerTransfer,
  layer: Descriptor,
  options: CallOptions,
  attempt: () => Promise<Result>,
): Promise<Result> {
  for (let n = 1; ; n += 1) {
    options.signal?.throwIfAborted();
    transfer.onProgress?.({ kind: "started", descriptor: layer });
    try {
      const result = await attempt();
      transfer.onProgress?.({ kind: "finished", descriptor: layer, outcome: "pushed" });
      return result;
    } catch (error) {
      if (n === maxAttempts || !(error instanceof ToolError) || error.category !== "unavailable") throw error;
    }
  }
}
