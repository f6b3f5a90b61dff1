import type { Chunks, Digest } from "../bytes/index.ts";
import { ToolError } from "../errors/index.ts";
import { parseUploadRange } from "./content-range.ts";
import { RegistryError } from "./errors.ts";
import { isPassing } from "./network-errors.ts";
import { registryLimits } from "./options.ts";
import type { DocumentReply } from "./repository-client.ts";
import { Backoff, pause } from "./retry.ts";
import { locationOf, putBlob, type UploadContext, type UploadSession } from "./upload-session.ts";

/** Chunk sizes: of registries that say nothing, and the most that we hold in memory because a registry wants it. */
export const chunkSizes = { usual: 8 * 1024 * 1024, most: 64 * 1024 * 1024, small: 4 * 1024 * 1024 - 64 * 1024 } as const;

/**
 * Uploads in chunks, each held in memory until the registry has confirmed it, and closes the session.
 *
 * After a lost answer the registry is asked how much it holds: the chunk counts as sent, or is sent again, or the
 * session is given up. A chunk is never repeated without asking: docker-registry 2.8 would append it a second time.
 * Source: distribution-spec, "Pushing a blob in chunks"; E-registry, sections 1.7 and 3.1.
 *
 * @param digest - asked once all bytes have been read.
 */
export async function uploadInChunks(
  context: UploadContext,
  session: UploadSession,
  source: Chunks,
  request: { readonly chunkSize: number; readonly digest: () => Digest },
): Promise<void> {
  const size = Math.max(session.minChunk, request.chunkSize);
  if (size > chunkSizes.most) {
    throw new RegistryError("ERR_REGISTRY_UNSUPPORTED", {
      message: `${context.subject}: the registry wants chunks of at least ${session.minChunk} bytes, more than ${chunkSizes.most}`,
    });
  }
  let { location } = session;
  let offset = 0;
  for await (const chunk of inBlocks(source, size)) {
    location = await sendChunk(context, location, chunk, offset);
    offset += chunk.length;
  }
  await putBlob(context, location, request.digest(), undefined);
}

/** Sends one chunk until the registry holds it; gives the next location. */
async function sendChunk(context: UploadContext, start: URL, chunk: Uint8Array, offset: number): Promise<URL> {
  const backoff = new Backoff(context.client.transport.retry);
  const end = offset + chunk.length;
  let location = start;
  for (;;) {
    try {
      const reply = await patch(context, location, chunk, offset);
      const held = parseUploadRange(reply.headers.one("range"));
      if (held !== undefined && held !== "0-or-1" && held !== end) throw outOfStep(context, end, held);
      return locationOf(context, reply);
    } catch (error) {
      const status = error instanceof ToolError ? error.details["status"] : undefined;
      const transient = isPassing(error) || status === 416;
      const waitMs = transient ? backoff.next() : undefined;
      if (waitMs === undefined) throw error;
      await pause(waitMs, context.signal);
      const state = await askOffset(context, location);
      if (state === undefined) throw error;
      ({ location } = state);
      if (state.held === end) return location;
      if (state.held !== offset) throw outOfStep(context, offset, state.held);
    }
  }
}

function patch(context: UploadContext, location: URL, chunk: Uint8Array, offset: number): Promise<DocumentReply> {
  return context.client.document(
    {
      method: "PATCH",
      target: location,
      subject: context.subject,
      expect: [201, 202, 204],
      headers: { "content-type": "application/octet-stream", "content-range": `${offset}-${offset + chunk.length - 1}` },
      body: chunk,
      repeat: "once",
      signal: context.signal,
    },
    registryLimits.errorBody,
  );
}

/** How much a session holds, and its current location; `undefined` when the registry cannot say. Source: distribution-spec, end-13. */
async function askOffset(context: UploadContext, location: URL): Promise<{ readonly held: number; readonly location: URL } | undefined> {
  try {
    const call = {
      method: "GET",
      target: location,
      subject: context.subject,
      expect: [204],
      signal: context.signal,
    } as const;
    const reply = await context.client.document(call, registryLimits.errorBody);
    const held = parseUploadRange(reply.headers.one("range"));
    if (held === undefined) return undefined;
    return {
      held: held === "0-or-1" ? 0 : held,
      location: reply.headers.one("location") === undefined ? location : locationOf(context, reply),
    };
  } catch (error) {
    if (context.signal?.aborted === true) throw error;
    return undefined;
  }
}

function outOfStep(context: UploadContext, expected: number, got: number): RegistryError {
  return new RegistryError("ERR_REGISTRY_UPLOAD_BROKEN", {
    message: `${context.subject}: the registry holds ${got} bytes of the upload (expected ${expected})`,
    hint: "run the same command again; what is uploaded already is not sent twice",
  });
}

/** Cuts a stream into blocks of one size, the last shorter. A block is only valid until the next is asked for. */
async function* inBlocks(source: Chunks, size: number): Chunks {
  const block = Buffer.allocUnsafeSlow(size);
  let filled = 0;
  for await (const chunk of source) {
    let from = 0;
    while (from < chunk.length) {
      const part = chunk.subarray(from, from + size - filled);
      block.set(part, filled);
      filled += part.length;
      from += part.length;
      if (filled === size) {
        yield block;
        filled = 0;
      }
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}
