import { collect, compose, digestOf, digestStage, type ByteStream, type ContentAddress } from "../bytes/index.ts";
import { Readable } from "node:stream";
import { ToolError } from "../errors/index.ts";
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
  let address: ContentAddress | undefined;
  const hashed = compose(
    source,
    digestStage((result) => (address = result)),
  );
  try {
    const session = await startUpload(context, {});
    if (session === "mounted")
      throw new RegistryError("ERR_REGISTRY_PROTOCOL", { message: `${context.subject}: mounted without being asked to` });
    const known = () => {
      if (address === undefined)
        throw new RegistryError("ERR_REGISTRY_UPLOAD_BROKEN", { message: `${context.subject}: the upload ended before its source` });
      return address;
    };
    if (size === undefined || (chunkSizeFor(context) !== chunkSizes.usual && size > chunkSizeFor(context))) {
      const stages = context.client.transport.rateStages("upload", context.signal);
      await uploadInChunks(context, session, compose(hashed, ...stages), {
        chunkSize: chunkSizeFor(context),
        digest: () => known().digest,
      });
      return known();
    }
    const location = await patchStream(context, session, hashed, size);
    await finish(context, location, known());
    return known();
  } finally {
    hashed.destroy();
  }
}

async function ingestSmall(context: UploadContext, source: ByteStream, size: number): Promise<ContentAddress> {
  const bytes = await collect(source, { maxBytes: size, subject: context.subject });
  const target = { mediaType: "application/octet-stream", digest: digestOf(bytes), size: bytes.length };
  await uploadBlob(context, target, () => Promise.resolve(Readable.from([bytes], { objectMode: false })), undefined);
  return { digest: target.digest, size: target.size };
}

/** The whole content in one PATCH. */
async function patchStream(context: UploadContext, session: UploadSession, source: ByteStream, size: number): Promise<URL> {
  try {
    return await streaming(
      context,
      source,
      () => undefined,
      async (watched, stream) =>
        locationOf(
          context,
          await context.client.document(
            {
              method: "PATCH",
              target: session.location,
              subject: context.subject,
              expect: [201, 202, 204],
              headers: { "content-type": "application/octet-stream", "content-range": `0-${size - 1}` },
              body: { stream, size },
              headersMs: context.client.transport.timeouts.commitMs,
              signal: watched.signal,
            },
            registryLimits.errorBody,
          ),
        ),
    );
  } catch (error) {
    const status = error instanceof ToolError ? error.details["status"] : undefined;
    // Learnt for the next time: whoever made the stream will make it again.
    if (status === 413 || status === 416) context.client.transport.patchLimits.set(context.client.origin.host, chunkSizes.small);
    await cancelUpload(context, session.location);
    if (status !== 413 && status !== 416 && status !== 404 && !isPassing(error)) throw error;
    throw new RegistryError("ERR_REGISTRY_UPLOAD_BROKEN", {
      message: `${context.subject}: the upload broke off (${error instanceof Error ? error.message : "unknown"})`,
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
