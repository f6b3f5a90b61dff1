import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { InternalError } from "../errors/index.ts";
import { endThread } from "./end-thread.ts";
import { CipherError, isCipherErrorCode } from "./errors.ts";
import type { PumpResult } from "./piece-pump.ts";
import type { PieceResult, PieceRunner, RunnerPlan } from "./runner.ts";
import type { FileWork, ThreadReply, ThreadRequest } from "./thread-messages.ts";

export interface CipherThreadsRequest {
  /** How many threads at most; when not given as many as there are processors, at most four: each costs some 12 MiB. */
  readonly threads?: number | undefined;
  /** Bytes of all layers that will come, where known: decides whether layers are worked on side by side. */
  readonly total?: number | undefined;
  /** The module that a thread runs, for bundles that keep it elsewhere. */
  readonly module?: URL | undefined;
}

/** Below this a hand-over of pieces to another thread costs more than it gains. */
const minThreadedSize = 8 << 20;
/** Below this a layer is not worth a message. */
const minApartSize = 1 << 15;
/** Below this an image is done before a thread has started. */
const minApartTotal = 4 << 20;

/** The threads for a layer of this size, if it gains from them: pieces of it go there and back. */
export function threadsFor(threads: CipherThreads | undefined, size: number | undefined): CipherThreads | undefined {
  return size === undefined || size < minThreadedSize ? undefined : threads;
}

/**
 * The threads for a layer that one of them works on alone, file to file, while others work on others. A layer that is
 * more than half of everything is not: two threads share its pieces.
 */
export function threadsApart(threads: CipherThreads | undefined, size: number): CipherThreads | undefined {
  const total = threads?.total ?? 0;
  return total >= minApartTotal && size >= minApartSize && size * 2 <= total ? threads : undefined;
}

/** What goes with a file that a thread works on alone. */
export interface FileCall {
  readonly progress?: ((size: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Waiting {
  readonly resolve: (result: PieceResult) => void;
  readonly reject: (cause: unknown) => void;
}

interface WaitingForFile {
  readonly resolve: (result: PumpResult) => void;
  readonly reject: (cause: unknown) => void;
  readonly progress: ((size: number) => void) | undefined;
  readonly abort: () => void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting[]>;
  readonly files: Map<number, WaitingForFile>;
  sessions: number;
  failure: unknown;
}

/**
 * Threads that run ciphers beside the caller's thread, which hashes, reads and writes meanwhile. They start when first
 * used and do not keep the process alive. Close them when done.
 */
export class CipherThreads {
  /** Bytes of all layers that will come, where known. */
  readonly total: number | undefined;
  readonly #limit: number;
  readonly #module: URL;
  readonly #threads: Thread[] = [];
  #sessions = 0;

  constructor(request: CipherThreadsRequest = {}) {
    this.total = request.total;
    this.#limit = request.threads ?? Math.min(4, availableParallelism());
    this.#module = request.module ?? ownModule();
    // A thread takes a while to start: it does so while keys are wrapped and the first bytes are read.
    if ((this.total ?? 0) >= minThreadedSize) this.#leastBusy(1);
  }

  /**
   * Begins a transform in the least busy thread. The calling thread does two hashes meanwhile, which is as much work: it
   * counts as one.
   */
  start(plan: RunnerPlan): PieceRunner {
    const thread = this.#leastBusy(Math.max(1, this.#limit - 1));
    const session = (this.#sessions += 1);
    thread.waiting.set(session, []);
    thread.sessions += 1;
    post(thread, { kind: "start", session, plan });
    let state: "open" | "closed" = "open";
    return {
      run: (request) =>
        new Promise((resolve, reject) => {
          if (thread.failure !== undefined) {
            reject(thread.failure);
            return;
          }
          thread.waiting.get(session)?.push({ resolve, reject });
          post(thread, { kind: "piece", session, ...request }, [request.piece.input, request.piece.output]);
        }),
      close() {
        if (state === "closed") return;
        state = "closed";
        thread.sessions -= 1;
        if (thread.failure === undefined) post(thread, { kind: "drop", session });
        if (thread.waiting.get(session)?.length === 0) thread.waiting.delete(session);
      },
    };
  }

  /** Has the least busy thread do all of a file. Throws what `pump` and the files throw, and the signal's reason. */
  async file(work: Omit<FileWork, "stop">, { progress, signal }: FileCall): Promise<PumpResult> {
    signal?.throwIfAborted();
    const thread = this.#leastBusy(this.#limit);
    if (thread.failure !== undefined) throw thread.failure;
    const session = (this.#sessions += 1);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const abort = () => Atomics.store(stop, 0, 1);
    signal?.addEventListener("abort", abort, { once: true });
    thread.sessions += 1;
    try {
      return await new Promise((resolve, reject) => {
        thread.files.set(session, { resolve, reject, progress, abort });
        post(thread, { kind: "file", session, work: { ...work, stop } });
      });
    } catch (cause) {
      signal?.throwIfAborted();
      throw cause;
    } finally {
      thread.files.delete(session);
      thread.sessions -= 1;
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends all threads; transforms that run end with an error. */
  async close(): Promise<void> {
    await Promise.all(
      this.#threads.splice(0).map(async (thread) => {
        for (const { abort } of thread.files.values()) abort();
        await endThread(thread.worker, () => post(thread, { kind: "stop" }));
      }),
    );
  }

  #leastBusy(limit: number): Thread {
    const [first] = this.#threads.toSorted((a, b) => a.sessions - b.sessions);
    if (first !== undefined && (first.sessions === 0 || this.#threads.length >= limit)) return first;
    const thread = startThread(this.#module);
    this.#threads.push(thread);
    return thread;
  }
}

function startThread(module: URL): Thread {
  // A small young generation: each chunk makes an output buffer, and collecting them often keeps them in the cache.
  // Measured: 0.6 s of CPU per GiB of AES-256-GCM instead of 1.2, and half the memory.
  const worker = new Worker(module, { resourceLimits: { maxYoungGenerationSizeMb: 1 } });
  worker.unref();
  const thread: Thread = { worker, waiting: new Map(), files: new Map(), sessions: 0, failure: undefined };
  const fail = (cause: unknown) => {
    thread.failure ??= cause;
    for (const list of thread.waiting.values()) for (const { reject } of list.splice(0)) reject(cause);
    for (const { reject } of thread.files.values()) reject(cause);
  };
  worker.on("message", (reply: ThreadReply) => {
    const file = thread.files.get(reply.session);
    switch (reply.kind) {
      case "moved":
        return file?.progress?.(reply.size);
      case "filed":
        return file?.resolve(reply.result);
      case "done":
        return thread.waiting.get(reply.session)?.shift()?.resolve(reply);
      case "failed":
        return (file ?? thread.waiting.get(reply.session)?.shift())?.reject(revive(reply));
    }
  });
  worker.on("error", (cause) => fail(new InternalError({ message: "a cipher thread failed", cause })));
  worker.on("exit", () => fail(new InternalError({ message: "a cipher thread ended before its work was done" })));
  return thread;
}

function revive(reply: Extract<ThreadReply, { kind: "failed" }>): Error {
  const { code, message, hint, details } = reply;
  if (isCipherErrorCode(code)) return new CipherError(code, { message, hint, details });
  return new InternalError({ message: `a cipher thread failed: ${message}` });
}

function post(thread: Thread, request: ThreadRequest, transfer: readonly ArrayBuffer[] = []): void {
  thread.worker.postMessage(request, [...transfer]);
}

/** Beside this module, with the same ending: sources run as they are, and compiled. */
function ownModule(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./thread-main.ts" : "./thread-main.js", import.meta.url);
}
