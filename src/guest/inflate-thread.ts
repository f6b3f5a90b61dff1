import { isMarkedAsUntransferable, Worker } from "node:worker_threads";
import type { ByteStream, Digest, DigestAlgorithm } from "../bytes/index.ts";
import { endThread } from "../cipher/index.ts";
import { InternalError } from "../errors/index.ts";
import type { Compression } from "./decompress.ts";
import { GuestError, guestErrors } from "./errors.ts";
import type { InflateReply, InflateRequest } from "./inflate-messages.ts";
import type { UnpackLimits } from "./limits.ts";
import { WaitingList } from "./waiting-list.ts";

/** Of one piece of output, and how many there are. */
const outputSize = 1 << 20;
const outputs = 4;
/** Inputs that may be under way: of a cipher's pieces two MiB. */
const maxInputs = 4;

export interface InflateJob {
  readonly compression: Compression;
  /** Its chunks are given away: nobody else uses their memory. */
  readonly stream: ByteStream;
  readonly limits: Pick<UnpackLimits, "maxZstdWindow">;
  readonly algorithm: DigestAlgorithm;
  /** Told the size of each compressed chunk. */
  readonly progress: (size: number) => void;
}

/**
 * A thread that inflates and hashes layers, one after the other, while the caller's thread receives and unpacks. It starts
 * when first used and does not keep the process alive. Close it when done.
 */
export class InflateThread {
  #worker: Worker | undefined;
  #replies = new WaitingList<InflateReply>();

  /**
   * Yields what a layer inflates to, each piece valid until the next is asked for, and returns the digest of all. Ends with
   * the error of the stream, `ERR_GUEST_COMPRESSION_MALFORMED` and `ERR_GUEST_LIMIT_EXCEEDED`.
   */
  async *inflate(job: InflateJob): AsyncGenerator<Buffer, Digest> {
    const worker = (this.#worker ??= this.#start());
    const replies = (this.#replies = new WaitingList());
    const { compression, algorithm, limits } = job;
    post(worker, { kind: "start", compression, algorithm, limits });
    const free = new WaitingList<void>();
    for (let i = 0; i < maxInputs; i += 1) free.add(undefined);
    this.#feed(worker, job, free).catch((cause: unknown) => replies.fail(cause));
    let state: "running" | "done" = "running";
    try {
      for (;;) {
        const reply = await replies.next();
        switch (reply.kind) {
          case "taken":
            free.add(undefined);
            break;
          case "output": {
            const { memory, length } = reply.output;
            yield Buffer.from(memory, 0, length);
            post(worker, { kind: "room", memory }, [memory]);
            break;
          }
          case "done":
            state = "done";
            return reply.digest;
          case "failed":
            throw revive(reply);
        }
      }
    } finally {
      free.fail(new InternalError({ message: "a layer was given up" }));
      job.stream.destroy();
      // Whatever it has of a layer that was given up goes with it.
      if (state !== "done") await this.close();
    }
  }

  /** Ends the thread once it has ended what it is at. */
  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    if (worker !== undefined) await endThread(worker, () => post(worker, { kind: "stop" }));
  }

  async #feed(worker: Worker, { stream, progress }: InflateJob, free: WaitingList<void>): Promise<void> {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      progress(chunk.length);
      await free.next();
      const input = memoryOf(chunk);
      post(worker, { kind: "input", input: { memory: input, length: chunk.length } }, [input]);
    }
    post(worker, { kind: "end" });
  }

  #start(): Worker {
    const worker = new Worker(ownModule(), { resourceLimits: { maxYoungGenerationSizeMb: 1 } });
    worker.unref();
    worker.on("message", (reply: InflateReply) => this.#replies.add(reply));
    worker.on("error", (cause) => this.#replies.fail(new InternalError({ message: "the thread that inflates failed", cause })));
    worker.on("exit", () => {
      // Between two layers nobody waits: the next one starts a thread of its own, and does not wait for this one for ever.
      if (this.#worker === worker) this.#worker = undefined;
      this.#replies.fail(new InternalError({ message: "the thread that inflates ended before its work was done" }));
    });
    for (let i = 0; i < outputs; i += 1) {
      const memory = Buffer.allocUnsafeSlow(outputSize).buffer;
      post(worker, { kind: "room", memory }, [memory]);
    }
    return worker;
  }
}

/** The memory that a chunk begins; a copy where that is not its own, as with the pool that small buffers of Node.js share. */
function memoryOf(chunk: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset } = chunk;
  const isOwn = buffer instanceof ArrayBuffer && byteOffset === 0 && !isMarkedAsUntransferable(buffer);
  return isOwn ? buffer : new Uint8Array(chunk).buffer;
}

function revive({ code, message, hint, details }: Extract<InflateReply, { kind: "failed" }>): Error {
  if (Object.hasOwn(guestErrors, code)) return new GuestError(code as keyof typeof guestErrors, { message, hint, details });
  return new InternalError({ message: `the thread that inflates failed: ${message}` });
}

function post(worker: Worker, request: InflateRequest, transfer: readonly ArrayBuffer[] = []): void {
  worker.postMessage(request, [...transfer]);
}

/** Beside this module, with the same ending: sources run as they are, and compiled. */
function ownModule(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./inflate-main.ts" : "./inflate-main.js", import.meta.url);
}
