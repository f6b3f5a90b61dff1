import type { ByteStage } from "../bytes/index.ts";
import { ZstdFrameSplitter } from "../cipher/index.ts";
import { GuestError } from "./errors.ts";

/**
 * Gives each frame of a zstd stream in chunks of its own, without skippable ones. Ends with
 * `ERR_GUEST_COMPRESSION_MALFORMED` when the stream is no zstd or stops inside a frame, with `ERR_GUEST_LIMIT_EXCEEDED`
 * when a frame wants a larger window.
 */
export function zstdFrames(maxWindow: number): ByteStage {
  return async function* (source) {
    const splitter = new ZstdFrameSplitter(maxWindow, { malformed, window: (bytes) => tooLarge(bytes, maxWindow) });
    for await (const chunk of source) yield* splitter.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    splitter.end();
  };
}

function tooLarge(window: number, maxWindow: number): GuestError {
  return new GuestError("ERR_GUEST_LIMIT_EXCEEDED", {
    message: `a zstd frame wants a window of ${window} bytes, more than ${maxWindow}`,
    hint: "compress the layer without --ultra or --long, or raise --limit zstd-window",
    details: { limit: "maxZstdWindow" },
  });
}

function malformed(why: string): GuestError {
  return new GuestError("ERR_GUEST_COMPRESSION_MALFORMED", {
    message: `the zstd stream is malformed: ${why}`,
    hint: "the layer is damaged or its media type is wrong; build the image again",
  });
}
