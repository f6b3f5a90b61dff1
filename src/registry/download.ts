import { Readable } from "node:stream";
import { streamOf, verifyContent, type ByteStream, type Chunks } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { markVerified, type FetchOptions } from "../store/index.ts";
import { parseContentRange } from "./content-range.ts";
import { RegistryError } from "./errors.ts";
import { isTransient, networkError } from "./network-errors.ts";
import type { RepositoryClient } from "./repository-client.ts";
import { Backoff, pause } from "./retry.ts";
import type { Reply } from "./transport.ts";

/** The bytes `[start, end)` of a blob that are still to come. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * A blob, verified while it streams; a broken transfer goes on where it broke (Range), with the same running digest.
 *
 * The first answer is awaited, so that an absent blob is an error of this call. With `options.range` only that part
 * comes, unverified (see {@link FetchOptions}).
 */
export async function downloadBlob(
  client: RepositoryClient,
  target: Descriptor,
  subject: string,
  options: FetchOptions,
): Promise<ByteStream> {
  const span = spanOf(target, options);
  const transfer = new Transfer(client, target, subject, span, options.signal);
  if (span.start === span.end)
    return span.end === target.size ? verified(emptyChunks(), target, subject, () => transfer.close()) : Readable.from([]);
  await transfer.open().catch((error: unknown) => {
    transfer.close();
    throw networkError(error, subject, options.signal);
  });
  let chunks: Chunks = transfer.chunks();
  for (const stage of client.transport.rateStages("download", options.signal)) chunks = stage(chunks);
  const release = () => transfer.close();
  return options.range === undefined ? verified(chunks, target, subject, release) : streamOf(chunks, { release, ahead: chunksAhead });
}

/** Chunks read ahead of the consumer, per stream. As objects: a stream of bytes joins what an iterating reader takes. */
const chunksAhead = 8;

/** Marked as verified, so that a store that receives it need not hash it again. */
function verified(chunks: Chunks, target: Descriptor, subject: string, release: () => void): ByteStream {
  return markVerified(streamOf(verifyContent(target, subject)(chunks), { release, ahead: chunksAhead }), target);
}

async function* emptyChunks(): Chunks {}

function spanOf(target: Descriptor, options: FetchOptions): Span {
  const { range } = options;
  if (range === undefined) return { start: 0, end: target.size };
  const start = Math.min(Math.max(0, range.start), target.size);
  return { start, end: Math.min(Math.max(start, range.end), target.size) };
}

/** One blob over as many requests as it takes. */
class Transfer {
  readonly #client: RepositoryClient;
  readonly #target: Descriptor;
  readonly #subject: string;
  readonly #span: Span;
  readonly #signal: AbortSignal | undefined;
  #reply: Reply | undefined;
  /** Bytes of the current answer that lie before what we want: the registry ignored the Range. */
  #skip = 0;
  #position: number;
  #closed = false;
  #leave: (() => void) | undefined;

  constructor(client: RepositoryClient, target: Descriptor, subject: string, span: Span, signal: AbortSignal | undefined) {
    this.#client = client;
    this.#target = target;
    this.#subject = subject;
    this.#span = span;
    this.#signal = signal;
    this.#position = span.start;
  }

  /** Asks for the bytes from the current position on. */
  async open(): Promise<void> {
    const { size, digest } = this.#target;
    // Held until the transfer is closed, so that a broken one need not queue again behind those that wait for it.
    this.#leave ??= await this.#client.transport.enter(this.#client.origin.origin, "download", this.#signal);
    const partial = this.#position > 0 || this.#span.end < size;
    const reply = await this.#client.download({
      method: "GET",
      target: `blobs/${digest}`,
      subject: this.#subject,
      expect: partial ? [200, 206] : [200],
      headers: partial ? { range: `bytes=${this.#position}-${this.#span.end - 1}` } : {},
      signal: this.#signal,
    });
    this.#reply = reply;
    if (this.#closed) return this.close();
    this.#skip = this.#checkStart(reply);
  }

  async *chunks(): Chunks {
    const backoff = new Backoff(this.#client.transport.retry);
    while (this.#position < this.#span.end) {
      const before = this.#position;
      try {
        yield* this.#current();
        if (this.#position < this.#span.end) throw brokenOff(this.#subject, this.#position, this.#target.size);
        return;
      } catch (error) {
        this.#reply?.body.destroy();
        if (this.#closed || this.#signal?.aborted === true || !isTransient(error)) throw networkError(error, this.#subject, this.#signal);
        if (this.#position > before) backoff.progressed();
        const waitMs = backoff.next();
        if (waitMs === undefined) throw networkError(error, this.#subject, this.#signal);
        const { host } = this.#client.origin;
        const { message } = networkError(error, this.#subject, this.#signal);
        const reason = `${message}; going on at byte ${this.#position}`;
        this.#client.transport.notify({ kind: "retry", host, attempt: backoff.attempt, waitMs, reason });
        await pause(waitMs, this.#signal);
        await this.open();
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#reply?.body.destroy();
    this.#leave?.();
  }

  async *#current(): Chunks {
    const reply = this.#reply;
    if (reply === undefined) return;
    const watch = new StallWatch(this.#client, this.#subject);
    const iterator = (reply.body as Chunks)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await watch.during(iterator.next());
        if (done === true) return;
        let chunk = value;
        if (this.#skip > 0) {
          const dropped = Math.min(this.#skip, chunk.length);
          this.#skip -= dropped;
          chunk = chunk.subarray(dropped);
        }
        const wanted = this.#span.end - this.#position;
        // Bytes beyond a part that we asked for are cut; beyond the whole blob they reach the verification, which objects.
        if (chunk.length > wanted && this.#span.end < this.#target.size) chunk = chunk.subarray(0, wanted);
        if (chunk.length === 0) continue;
        this.#position += chunk.length;
        yield chunk;
        if (this.#position >= this.#span.end && this.#span.end < this.#target.size) return;
      }
    } finally {
      reply.body.destroy();
    }
  }

  /** Checks status, length and range before a byte is believed; how many bytes of a full answer are to be skipped. */
  #checkStart(reply: Reply): number {
    const { size } = this.#target;
    const length = reply.headers.contentLength();
    if (reply.status === 206) {
      const range = parseContentRange(reply.headers.one("content-range"));
      // A last byte before the one asked for is allowed (the rest is asked for afterwards); any other start is not.
      if (range === undefined || range.start !== this.#position || range.end > this.#span.end || (range.size ?? size) !== size) {
        throw this.#protocol(
          `a range from byte ${this.#position} of ${size} was answered with the range ${range === undefined ? "?" : `${range.start}-${range.end - 1}/${range.size ?? "*"}`}`,
        );
      }
      return 0;
    }
    if (reply.headers.mediaType() === "text/html" && length !== size) throw this.#protocol("a blob was answered with a web page");
    if (length !== undefined && length !== size) {
      throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
        message: `${this.#subject} has ${length} bytes at the registry, its descriptor says ${size}`,
        hint: "the image is broken, or the registry or a proxy changed it; push it again",
      });
    }
    return this.#position;
  }

  #protocol(message: string): RegistryError {
    return new RegistryError("ERR_REGISTRY_PROTOCOL", {
      message: `${this.#subject}: ${message}`,
      hint: "the registry, or a proxy before it, answers ranges wrongly; tell its owner",
    });
  }
}

function brokenOff(subject: string, got: number, size: number): RegistryError {
  return new RegistryError("ERR_REGISTRY_UNREACHABLE", { message: `${subject}: the transfer ended at byte ${got} of ${size}` });
}

/**
 * Notices a blob that drips: fewer bytes per second than the limit over a whole window, counted only while we wait for
 * the registry, never while the consumer is busy. Silence is noticed by the transport's own timeout.
 */
class StallWatch {
  readonly #windowMs: number;
  readonly #minBytes: number;
  readonly #subject: string;
  #waitedMs = 0;
  #bytes = 0;

  constructor(client: RepositoryClient, subject: string) {
    const { stallMs, minBytesPerSecond } = client.transport.timeouts;
    this.#windowMs = stallMs;
    this.#minBytes = (minBytesPerSecond * stallMs) / 1000;
    this.#subject = subject;
  }

  async during(next: Promise<IteratorResult<Uint8Array>>): Promise<IteratorResult<Uint8Array>> {
    // Not `performance`: asking for it loads a module of Node.js that nothing else here needs.
    const from = process.hrtime.bigint();
    const result = await next;
    this.#waitedMs += Number(process.hrtime.bigint() - from) / 1e6;
    if (result.done !== true) this.#bytes += result.value.length;
    if (this.#bytes >= this.#minBytes) {
      this.#bytes = 0;
      this.#waitedMs = 0;
    }
    if (this.#waitedMs > this.#windowMs) {
      throw new RegistryError("ERR_REGISTRY_TIMEOUT", {
        message: `${this.#subject}: the registry sent ${this.#bytes} bytes in ${Math.round(this.#waitedMs)} ms`,
        hint: "check the network and the registry's load, then run the same command again",
      });
    }
    return result;
  }
}
