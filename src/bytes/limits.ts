import type { ByteStage, Chunks } from "./compose.ts";
import { BytesError } from "./errors.ts";

/** Ends with `ERR_CONTENT_TOO_LARGE` once more than `maxBytes` came through. */
export function limitBytes(maxBytes: number, subject = "content"): ByteStage {
  return async function* (source) {
    let size = 0;
    for await (const chunk of source) {
      size += chunk.length;
      if (size > maxBytes) throw tooLarge(maxBytes, subject);
      yield chunk;
    }
  };
}

/** Tells an observer the size of every chunk that passes, for progress. */
export function observeBytes(observe: (size: number) => void): ByteStage {
  return async function* (source) {
    for await (const chunk of source) {
      observe(chunk.length);
      yield chunk;
    }
  };
}

/** Reads small content whole. Throws `ERR_CONTENT_TOO_LARGE` as soon as the limit is passed; never for layers. */
export async function collect(source: Chunks, limits: { readonly maxBytes: number; readonly subject?: string }): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.length;
    if (size > limits.maxBytes) throw tooLarge(limits.maxBytes, limits.subject ?? "content");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

function tooLarge(maxBytes: number, subject: string): BytesError {
  return new BytesError("ERR_CONTENT_TOO_LARGE", { message: `${subject} is larger than the limit of ${maxBytes} bytes` });
}
