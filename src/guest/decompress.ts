import { pipeline, Readable } from "node:stream";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import type { Chunks } from "../bytes/index.ts";
import { mediaTypes, type Descriptor } from "../oci/index.ts";
import { GuestError } from "./errors.ts";
import type { UnpackLimits } from "./limits.ts";
import { zstdFrames } from "./zstd-frames.ts";

export type Compression = "none" | "gzip" | "zstd";

/** Non-distributable layers were deprecated in image-spec 1.1; their content is the same. */
const compressions: Readonly<Record<string, Compression>> = {
  [mediaTypes.layerTar]: "none",
  [mediaTypes.layerTarGzip]: "gzip",
  [mediaTypes.layerTarZstd]: "zstd",
  [mediaTypes.dockerLayerTar]: "none",
  [mediaTypes.dockerLayerTarGzip]: "gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
  "application/vnd.oci.image.layer.nondistributable.v1.tar": "none",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
};

/**
 * How a plain layer is compressed. The media type alone decides: it stands in the signed manifest, the first bytes do not.
 * Throws `ERR_GUEST_LAYER_UNSUPPORTED`.
 */
export function compressionOf(layer: Pick<Descriptor, "mediaType">): Compression {
  const compression = Object.hasOwn(compressions, layer.mediaType) ? compressions[layer.mediaType] : undefined;
  if (compression !== undefined) return compression;
  throw new GuestError("ERR_GUEST_LAYER_UNSUPPORTED", {
    message: `a layer has media type ${layer.mediaType}, which cannot be unpacked`,
    hint: layer.mediaType.endsWith("+encrypted")
      ? "the layer is encrypted: use ociseal pull with a key"
      : "only tar layers, plain or with gzip or zstd, can be unpacked",
    details: { mediaType: layer.mediaType },
  });
}

/** One piece of inflated tar. Larger pieces mean fewer turns of the event loop: at 64 KiB inflating takes half as long again. */
const outputSize = 1024 * 1024;
/** How many pieces inflating runs ahead of the untar. */
const readAhead = 4;

/**
 * Inflates in libuv's pool, ahead of the reader. Gzip may have several members, zstd several frames.
 * Ends with `ERR_GUEST_COMPRESSION_MALFORMED` at damage, a cut, or garbage after the end.
 */
export async function* decompress(
  compression: Compression,
  source: Chunks,
  limits: Pick<UnpackLimits, "maxZstdWindow">,
): AsyncGenerator<Buffer> {
  if (compression === "none") {
    for await (const chunk of source) yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    return;
  }
  // In object mode, so that a slow reader is handed piece by piece: otherwise the stream joins all that has gathered.
  const options = { chunkSize: outputSize, readableObjectMode: true, readableHighWaterMark: readAhead };
  const inflater =
    compression === "gzip"
      ? createGunzip(options)
      : createZstdDecompress({ ...options, params: { [constants.ZSTD_d_windowLogMax]: Math.ceil(Math.log2(limits.maxZstdWindow)) } });
  const framed = compression === "gzip" ? source : zstdFrames(limits.maxZstdWindow)(source);
  const given: { bytes: number; state: "some" | "all" } = { bytes: 0, state: "some" };
  async function* counted(): Chunks {
    for await (const chunk of framed) {
      given.bytes += chunk.length;
      yield chunk;
    }
    given.state = "all";
  }
  // In object mode, so that pieces are never joined: zstd needs them cut at frames. pipeline destroys both ends at every failure and tells the reader of the inflater why.
  pipeline(Readable.from(counted()), inflater, () => undefined);
  try {
    for await (const chunk of inflater) yield chunk as Buffer;
  } catch (cause) {
    throw isZlibError(cause) ? malformed(compression, cause.message, cause) : cause;
  } finally {
    inflater.destroy();
  }
  // At a zero byte behind a member Node.js ends without a word, and the rest would be neither seen nor verified. Go's reader,
  // which most tools have, refuses it.
  if (given.state !== "all" || inflater.bytesWritten !== given.bytes) throw malformed(compression, "something follows its end", undefined);
}

function isZlibError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && typeof error.code === "string" && /^(?:Z_|ZSTD_)/.test(error.code);
}

function malformed(compression: Compression, why: string, cause: Error | undefined): GuestError {
  return new GuestError("ERR_GUEST_COMPRESSION_MALFORMED", {
    message: `the ${compression} stream is malformed: ${why}`,
    hint: "the layer is damaged or its media type is wrong; build the image again",
    cause,
  });
}
