import { Readable } from "node:stream";
import {
  BytesError,
  collect,
  compose,
  digestOf,
  digestStage,
  newHasher,
  type ByteStage,
  type ByteStream,
  type ContentAddress,
} from "../bytes/index.ts";
import { describeCause, InternalError, ToolError } from "../errors/index.ts";
import type { IngestRequest } from "../store/index.ts";
import { RegistryError } from "./errors.ts";
import { isPassing } from "./network-errors.ts";
import { registryLimits } from "./options.ts";
import { Backoff, pause } from "./retry.ts";
import { uploadBlob } from "./upload.ts";
import { chunkSizes, uploadInChunks } from "./upload-chunks.ts";
import { cancelUpload, locationOf, putBlob, startUpload, type UploadContext, type UploadSession } from "./upload-session.ts";
import { blobIsThere, chunkSizeFor, smallBlob, streaming } from "./upload-stream.ts";

/**
 * Uploads a blob whose digest is known only at its end, from a stream that comes once.
 *
 * Of known size: one streamed PATCH with Content-Length. Of unknown size, or where the registry limits a PATCH: chunks
 * from memory, each with its length. Small content is kept and sent like a known blob. When a streamed PATCH breaks the
 * content is gone: `ERR_REGISTRY_UPLOAD_BROKEN`, and whoever made the stream must make it again (with a fresh key).
 */
export async function ingestBlob(context: UploadContext, source: ByteStream, request: IngestRequest): Promise<ContentAddress> {
  const { size } = request;
  if (size !== undefined && size <= smallBlob) return ingestSmall(context, source, size);
  const session = await startUpload(context, {});
  if (session === "mounted") {
    throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
      message: `${context.subject}: the registry says that it mounted what nobody named`,
    });
  }
  let address: ContentAddress | undefined;
  const report = (result: ContentAddress) => (address = result);
  const known = (): ContentAddress => {
    if (address !== undefined) return address;
    throw new InternalError({ message: `${context.subject}: the upload ended before its source was hashed` });
  };
  const chunkSize = chunkSizeFor(context);
  if (size === undefined || (chunkSize < chunkSizes.usual && size > chunkSize)) {
    const stages = [
      request.address === undefined ? digestStage(report) : reportAt(request.address, report),
      ...context.client.transport.rateStages("upload", context.signal),
    ];
    const stream = compose(source, ...stages);
    try {
      await uploadInChunks(context, session, stream, { chunkSize, digest: () => known().digest });
    } finally {
      stream.destroy();
    }
    return known();
  }
  const stage = sizedDigest({ size, address: request.address }, context.subject, report);
  const location = await patchStream(context, session, source, stage, size);
  await finish(context, location, known());
  return known();
}

/**
 * Hashes content of a size that was promised. The last chunk is held back until the source has ended with exactly that
 * size, and the digest is reported before it goes out: the registry may answer as soon as it has the last byte, sooner
 * than we would hear of the end. Ends with `ERR_CONTENT_TRUNCATED` or `ERR_CONTENT_TRAILING_DATA` instead.
 */
export function sizedDigest(
  { size: expected, address }: { readonly size: number; readonly address?: IngestRequest["address"] },
  subject: string,
  report: (address: ContentAddress) => void,
): ByteStage {
  return async function* (source) {
    const hasher = address === undefined ? newHasher() : undefined;
    let size = 0;
    let held: Uint8Array | undefined;
    for await (const chunk of source) {
      size += chunk.length;
      if (size > expected) throw wrongSize("ERR_CONTENT_TRAILING_DATA", subject, expected, `at least ${size}`);
      hasher?.update(chunk);
      if (held !== undefined) yield held;
      held = chunk;
    }
    if (size < expected) throw wrongSize("ERR_CONTENT_TRUNCATED", subject, expected, String(size));
    const known = hasher === undefined ? address?.() : { digest: hasher.digest(), size };
    if (known !== undefined) report(known);
    if (held !== undefined) yield held;
  };
}

/** Reports the address that the source's maker has computed, once the source has ended. */
function reportAt(address: () => ContentAddress, report: (address: ContentAddress) => void): ByteStage {
  return async function* (source) {
    yield* source;
    report(address());
  };
}

function wrongSize(
  code: "ERR_CONTENT_TRUNCATED" | "ERR_CONTENT_TRAILING_DATA",
  subject: string,
  expected: number,
  got: string,
): BytesError {
  return new BytesError(code, { message: `${subject} is not as long as was promised (expected ${expected} bytes, got ${got})` });
}

async function ingestSmall(context: UploadContext, source: ByteStream, size: number): Promise<ContentAddress> {
  let address: ContentAddress | undefined;
  const stage = sizedDigest({ size }, context.subject, (result) => (address = result));
  const bytes = await collect(compose(source, stage), { maxBytes: size, subject: context.subject });
  const { digest } = address ?? { digest: digestOf(bytes) };
  const target = { mediaType: "application/octet-stream", digest, size };
  await uploadBlob(context, target, () => Promise.resolve(Readable.from([bytes], { objectMode: false })), undefined);
  return { digest, size };
}

/** The whole content in one PATCH. */
async function patchStream(
  context: UploadContext,
  session: UploadSession,
  source: ByteStream,
  hash: ByteStage,
  size: number,
): Promise<URL> {
  const call = {
    method: "PATCH",
    target: session.location,
    subject: context.subject,
    expect: [201, 202, 204],
    headers: { "content-type": "application/octet-stream", "content-range": `0-${size - 1}` },
    headersMs: context.client.transport.timeouts.commitMs,
  } as const;
  try {
    return await streaming(context, source, [hash], async ({ signal }, stream) =>
      locationOf(context, await context.client.document({ ...call, body: { stream, size }, signal }, registryLimits.errorBody)),
    );
  } catch (error) {
    const status = error instanceof ToolError ? error.details["status"] : undefined;
    // Learnt for the next time: whoever made the stream will make it again.
    if (status === 413 || status === 416) context.client.transport.patchLimits.set(context.client.origin.host, chunkSizes.small);
    await cancelUpload(context, session.location);
    if (status !== 413 && status !== 416 && status !== 404 && !isPassing(error)) throw error;
    throw new RegistryError("ERR_REGISTRY_UPLOAD_BROKEN", {
      message: `${context.subject}: the upload broke off (${describeCause(error)})`,
      hint: "run the same command again",
      cause: error,
    });
  }
}

/** Closes the session of a blob that has been sent whole; the answer may get lost, so the blob is looked for before trying again. */
async function finish(context: UploadContext, location: URL, address: ContentAddress): Promise<void> {
  const backoff = new Backoff(context.client.transport.retry);
  for (;;) {
    try {
      return await putBlob(context, location, address.digest, undefined);
    } catch (error) {
      const status = error instanceof ToolError ? error.details["status"] : undefined;
      const waitMs = isPassing(error) || status === 404 ? backoff.next() : undefined;
      if (waitMs === undefined) throw error;
      await pause(waitMs, context.signal);
      if (await blobIsThere(context, { mediaType: "application/octet-stream", ...address })) return;
      if (status === 404) throw error;
    }
  }
}
