import { collect, compose, observeBytes } from "../bytes/index.ts";
import { ToolError } from "../errors/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { ensureVerified, type BlobSource } from "../store/index.ts";
import { RegistryError } from "./errors.ts";
import { isPassing } from "./network-errors.ts";
import { FreshTokenNeeded } from "./repository-client.ts";
import { Backoff, pause } from "./retry.ts";
import { uploadInChunks } from "./upload-chunks.ts";
import { cancelUpload, putBlob, startUpload, type UploadContext, type UploadSession } from "./upload-session.ts";
import { blobIsThere, chunkSizeFor, smallBlob, streaming } from "./upload-stream.ts";

/** After a PUT broke behind this many bytes, the blob goes in chunks, so that a bad line loses a chunk and not the blob. */
const chunkAfterBreak = 64 * 1024 * 1024;

/**
 * Uploads a blob whose digest is known, from a source that can be opened again: POST, then one PUT with the whole
 * content. Whatever breaks, a new session starts from the source: docker-registry 2.8 cannot resume a session after a
 * lost answer. Chunks only where the one PUT is refused as too large or breaks behind many bytes.
 */
export async function uploadBlob(
  context: UploadContext,
  target: Descriptor,
  source: BlobSource,
  mountFrom: string | undefined,
): Promise<"pushed" | "mounted"> {
  const backoff = new Backoff(context.client.transport.retry);
  let from = mountFrom;
  let manner: "whole" | "chunks" = "whole";
  for (;;) {
    let session: UploadSession | "mounted" | undefined;
    let sent = 0;
    const count = (size: number) => (sent += size);
    try {
      session = await startUpload(context, { digest: target.digest, mountFrom: from });
      if (session === "mounted") return "mounted";
      await (manner === "whole" ? sendWhole(context, session, target, source, count) : sendChunks(context, session, target, source));
      return "pushed";
    } catch (error) {
      // A mount is an offer: whatever is answered to it, the content itself may still be pushed.
      if (from !== undefined && session === undefined && isAnswer(error)) {
        from = undefined;
        continue;
      }
      const next = nextManner(error, manner, sent);
      const waitMs = next === undefined || context.signal?.aborted === true ? undefined : backoff.next();
      if (next === undefined || waitMs === undefined) {
        if (session !== undefined && session !== "mounted") await cancelUpload(context, session.location);
        throw error;
      }
      const { host } = context.client.origin;
      const reason = error instanceof Error ? error.message : context.subject;
      context.client.transport.notify({ kind: "retry", host, attempt: backoff.attempt, waitMs, reason });
      await pause(waitMs, context.signal);
      // The answer may have been lost after the registry had stored everything.
      if (sent > 0 && (await blobIsThere(context, target))) return "pushed";
      manner = next;
    }
  }
}

async function sendWhole(
  context: UploadContext,
  session: UploadSession,
  target: Descriptor,
  source: BlobSource,
  count: (size: number) => void,
): Promise<void> {
  if (target.size <= smallBlob) {
    const stages = context.client.transport.rateStages("upload", context.signal);
    const stream = compose(ensureVerified(await source(), target, context.subject), ...stages);
    const bytes = await collect(stream, { maxBytes: smallBlob, subject: context.subject });
    count(bytes.length);
    return putBlob(context, session.location, target.digest, bytes);
  }
  await streaming(context, ensureVerified(await source(), target, context.subject), [observeBytes(count)], (watched, stream) =>
    putBlob(watched, session.location, target.digest, { stream, size: target.size }),
  );
}

async function sendChunks(context: UploadContext, session: UploadSession, target: Descriptor, source: BlobSource): Promise<void> {
  const stages = context.client.transport.rateStages("upload", context.signal);
  const stream = compose(ensureVerified(await source(), target, context.subject), ...stages);
  try {
    await uploadInChunks(context, session, stream, { chunkSize: chunkSizeFor(context), digest: () => target.digest });
  } finally {
    stream.destroy();
  }
}

/** How to go on after a failure; `undefined` when trying again is pointless. */
function nextManner(error: unknown, manner: "whole" | "chunks", sent: number): "whole" | "chunks" | undefined {
  if (error instanceof FreshTokenNeeded) return manner;
  const status = error instanceof ToolError ? error.details["status"] : undefined;
  if (status === 413) return manner === "whole" ? "chunks" : undefined;
  const lost = error instanceof RegistryError && error.code === "ERR_REGISTRY_UPLOAD_BROKEN";
  // 404: the session is unknown (expired, or its state outdated); a new one may work.
  if (!lost && status !== 404 && !isPassing(error)) return undefined;
  return sent > chunkAfterBreak ? "chunks" : manner;
}

function isAnswer(error: unknown): boolean {
  return error instanceof ToolError && (error.details["status"] !== undefined || error.category === "denied");
}
