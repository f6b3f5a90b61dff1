import { closeStream, compose, verifyContent, type ByteStream, type Chunks } from "../../bytes/index.ts";
import type { KeyUnwrapper } from "../../keywrap/index.ts";
import { openLayer, type OpenedLayer } from "../../layer/index.ts";
import type { Descriptor } from "../../oci/index.ts";
import { KeyproviderError } from "../errors.ts";
import { fillSpool } from "./spool.ts";

export interface DecodeRequest {
  readonly layer: Descriptor;
  /** What `STREAM_PROCESSOR_MEDIATYPE` says the source is. */
  readonly mediaType: string | undefined;
  /** The ciphertext; ended in every case. */
  readonly source: ByteStream;
  readonly unwrappers: readonly KeyUnwrapper[];
  /** Folder for the ciphertext of layers that can be verified only as a whole; nothing decrypted is ever written. */
  readonly spoolFolder: string;
}

/**
 * The plaintext of one layer, for containerd to unpack while it comes. Nothing is in it that was not verified: layers
 * with one MAC over all of them are read to the end first, from a spool. The last piece is held back until everything
 * was verified, so that a failure also leaves an archive that is visibly cut: containerd may not wait for the exit
 * status. Throws, and ends with, `ERR_KEYPROVIDER_PAYLOAD`, `ERR_LAYER_*`, `ERR_CIPHER_*`, `ERR_KEYWRAP_*`,
 * `ERR_CONTENT_*`.
 */
export async function decodeLayer(request: DecodeRequest, options: { readonly signal?: AbortSignal } = {}): Promise<ByteStream> {
  const { layer, source } = request;
  try {
    checkMediaType(layer, request.mediaType);
    const opened = await openLayer({ layer, unwrappers: request.unwrappers }, options);
    const verified = compose(source, verifyContent({ digest: layer.digest, size: layer.size }, "the encrypted layer"));
    switch (opened.passes) {
      case 1:
        return compose(await opened.open(async () => verified), withholdLast);
      case 2:
        return await openSpooled(opened, verified, request.spoolFolder, options.signal);
    }
  } catch (cause) {
    await closeStream(source);
    throw cause;
  }
}

async function openSpooled(opened: OpenedLayer, source: ByteStream, folder: string, signal: AbortSignal | undefined): Promise<ByteStream> {
  const spool = await fillSpool(source, folder, signal);
  try {
    const plaintext = compose(await opened.open(spool.open), withholdLast);
    // Nobody waits for this: the file has no name any more, and goes with the process at the latest.
    plaintext.once("close", () => void spool.close().catch(() => undefined));
    return plaintext;
  } catch (cause) {
    await spool.close();
    throw cause;
  }
}

/** Holds the last piece back until the source has ended well. */
async function* withholdLast(source: Chunks): Chunks {
  let held: Uint8Array | undefined;
  for await (const chunk of source) {
    if (chunk.length === 0) continue;
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (held !== undefined) yield held;
}

function checkMediaType(layer: Descriptor, announced: string | undefined): void {
  if (announced === undefined || announced === "" || announced === layer.mediaType) return;
  throw new KeyproviderError("ERR_KEYPROVIDER_PAYLOAD", {
    message: `containerd announced a layer of type ${announced.slice(0, 200)} and handed over the descriptor of ${layer.mediaType.slice(0, 200)}`,
    hint: "compare the stream_processors in containerd's configuration with what ociseal ctd-decoder --print-config prints",
  });
}
