import { closeStream, compose, observeBytes, type ByteStage, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import { ToolError } from "../errors/index.ts";
import {
  openFile,
  padLayer,
  paddedSize,
  sealFile,
  sealLayer,
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

/** Encrypts one layer on its way from store to store. Returns the sealed layer's descriptor. */
export async function transferSealed(transfer: LayerTransfer, request: SealTransfer, options: CallOptions): Promise<Descriptor> {
  const { from, to } = transfer;
  const { layer, padding = "none" } = request;
  let source: "unchecked" | "checked" = request.convergentSecret === undefined ? "checked" : "unchecked";
  return retrying(transfer, layer, options, async () => {
    if (source === "unchecked") await readWhole(from, layer, options);
    source = "checked";
    // Each attempt has a key and a nonce of its own: what was sent before must never meet another plaintext.
    const sealing = await sealLayer(padding === "padme" ? { ...request, layer: padded(layer) } : request, options);
    const path = padding === "none" ? from.localPath(layer) : undefined;
    if (path !== undefined && stages(to))
      return onDisk(transfer, layer, to, options, (files) => sealFile(sealing, { sourcePath: path, ...files }));
    const plaintext = await from.fetch(layer, options);
    const pad = padding === "padme" ? [padLayer(layer.mediaType, layer.size)] : [];
    const ciphertext = compose(plaintext, observed(transfer, layer), ...pad, sealing.stage);
    const address = await ingest(to, ciphertext, sealing.size, options);
    return sealing.finish(address);
  });
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
  /** Checks the plaintext on its way: the diffID of what it uncompresses to. */
  readonly check: ByteStage;
  /** The same check where the diffID was computed on the way; throws. */
  readonly checkDiffId: (diffId: Digest) => void;
}

/** Decrypts one layer on its way from store to store. Returns the plain layer's descriptor. */
export async function transferOpened(transfer: LayerTransfer, request: OpenTransfer, options: CallOptions): Promise<Descriptor> {
  const { from, to } = transfer;
  const { layer, opened, check } = request;
  return retrying(transfer, layer, options, async () => {
    const path = from.localPath(layer);
    if (path !== undefined && stages(to)) {
      return onDisk(transfer, layer, to, options, async (files) => {
        const { plaintext, diffId } = await openFile(opened, { sourcePath: path, ...files });
        request.checkDiffId(diffId);
        return opened.plainDescriptor(plaintext);
      });
    }
    const plaintext = await opened.open((range) => from.fetch(layer, range === undefined ? options : { ...options, range }));
    const address = await ingest(to, compose(plaintext, observed(transfer, layer), check), opened.size, options);
    return opened.plainDescriptor(address);
  });
}

/** A destination that takes files: the way without copies, on two threads. */
function stages(store: ContentStore): store is LayoutStore {
  return "stageBlob" in store;
}

async function onDisk(
  transfer: LayerTransfer,
  layer: Descriptor,
  to: LayoutStore,
  { signal }: CallOptions,
  work: (files: {
    readonly targetPath: string;
    readonly progress: (size: number) => void;
    readonly signal: AbortSignal | undefined;
  }) => Promise<Descriptor>,
): Promise<Descriptor> {
  const staged = await to.stageBlob();
  try {
    const progress = (size: number): void => transfer.onProgress?.({ kind: "moved", descriptor: layer, size });
    const result = await work({ targetPath: staged.path, progress, signal });
    await staged.commit(result);
    return result;
  } finally {
    await staged.discard();
  }
}

async function ingest(to: ContentStore, stream: ByteStream, size: number | undefined, options: CallOptions): Promise<ContentAddress> {
  try {
    return await to.ingest(stream, size === undefined ? options : { ...options, size });
  } finally {
    await closeStream(stream);
  }
}

function observed({ onProgress }: LayerTransfer, descriptor: Descriptor): ByteStage {
  return observeBytes((size) => onProgress?.({ kind: "moved", descriptor, size }));
}

async function retrying(
  transfer: LayerTransfer,
  layer: Descriptor,
  options: CallOptions,
  attempt: () => Promise<Descriptor>,
): Promise<Descriptor> {
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
