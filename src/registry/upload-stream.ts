import { compose, type ByteStage, type ByteStream } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { RegistryError } from "./errors.ts";
import { chunkSizes } from "./upload-chunks.ts";
import type { UploadContext } from "./upload-session.ts";

/** Blobs up to this size are sent from memory: one write, and sending them again costs nothing. */
export const smallBlob = 256 * 1024;

/**
 * Registries that limit a PATCH although they do not say so. GHCR refuses bodies over 4 MiB with 416 (a PUT may have
 * any size). Source: E-registry, section 3.5.
 */
const patchLimits: ReadonlyMap<string, number> = new Map([["ghcr.io", chunkSizes.small]]);

/** The size of chunks for this registry; smaller than usual only where it limits a PATCH. */
export function chunkSizeFor({ client }: UploadContext): number {
  return client.transport.patchLimits.get(client.origin.host) ?? patchLimits.get(client.origin.hostname) ?? chunkSizes.usual;
}

/** Whether a blob of the right size is there, without reading it. */
export async function blobIsThere(context: UploadContext, target: Descriptor): Promise<boolean> {
  const { client, subject, signal } = context;
  const call = { method: "HEAD", target: `blobs/${target.digest}`, subject, expect: [200, 404], signal } as const;
  const { status, headers } = await client.document(call, 0);
  if (status === 404 || headers.mediaType() === "text/html") return false;
  const length = headers.contentLength();
  return length === undefined || length === target.size;
}

/**
 * Runs a request whose body is a stream: through the given stages, the rate limit and the stall watch. The stream is
 * ended on every path.
 */
export async function streaming<Result>(
  context: UploadContext,
  source: ByteStream,
  stages: readonly ByteStage[],
  send: (context: UploadContext, stream: ByteStream) => Promise<Result>,
): Promise<Result> {
  const { transport } = context.client;
  const watch = watchUpload(transport.timeouts.headersMs, context.subject, context.signal);
  const stream = compose(source, ...stages, ...transport.rateStages("upload", context.signal), watch.stage);
  try {
    return await send({ ...context, signal: watch.signal }, stream);
  } finally {
    watch.end();
    stream.destroy();
  }
}

/**
 * Aborts an upload that the registry has stopped taking.
 *
 * undici's own timer would only fire after the long time that a commit may take, so the time between a chunk and the
 * wish for the next is measured here.
 */
function watchUpload(timeoutMs: number, subject: string, signal: AbortSignal | undefined) {
  const controller = new AbortController();
  const relay = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", relay, { once: true });
  const stalled = () =>
    controller.abort(
      new RegistryError("ERR_REGISTRY_TIMEOUT", {
        message: `${subject}: the registry took nothing for ${timeoutMs} ms`,
        hint: "check the network and the registry's load, then run the same command again",
      }),
    );
  const stage: ByteStage = async function* (source) {
    let watch: NodeJS.Timeout | undefined;
    try {
      for await (const chunk of source) {
        watch = setTimeout(stalled, timeoutMs);
        yield chunk;
        clearTimeout(watch);
      }
    } finally {
      clearTimeout(watch);
    }
  };
  return { signal: controller.signal, end: () => signal?.removeEventListener("abort", relay), stage };
}
