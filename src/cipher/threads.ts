import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { InternalError } from "../errors/index.ts";
import { CipherError, isCipherErrorCode } from "./errors.ts";
import type { PieceResult, PieceRunner, RunnerPlan } from "./runner.ts";
import type { ThreadReply, ThreadRequest } from "./thread-messages.ts";

export interface CipherThreadsRequest {
  /**
   * How many threads at most; when not given one less than there are processors, at least one and at most four: the
   * calling thread does two hashes meanwhile, which is as much work, and each thread costs some 12 MiB.
   */
  readonly threads?: number | undefined;
  /** The module that a thread runs, for bundles that keep it elsewhere. */
  readonly module?: URL | undefined;
}

/** Below this a hand-over to another thread costs more than it gains, and layers side by side keep the processors busy. */
const minThreadedSize = 8 << 20;

/** The threads for a layer of this size, if it gains from them. */
export function threadsFor(threads: CipherThreads | undefined, size: number | undefined): CipherThreads | undefined {
  return size === undefined || size < minThreadedSize ? undefined : threads;
}

interface Waiting {
  readonly resolve: (result: PieceResult) => void;
  readonly reject: (cause: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting[]>;
  sessions: number;
  failure: unknown;
}

/**
 * Threads that run ciphers beside the caller's thread, which hashes, reads and writes meanwhile. They start when first
 * used and do not keep the process alive. Close them when done.
 */
export class CipherThreads {
  readonly #limit: number;
  readonly #module: URL;
  readonly #threads: Thread[] = [];
  #sessions = 0;

  constructor(request: CipherThreadsRequest = {}) {
    this.#limit = request.threads ?? Math.min(4, Math.max(1, availableParallelism() - 1));
    this.#module = request.module ?? ownModule();
  }

  /** Begins a transform in the least busy thread. */
  start(plan: RunnerPlan): PieceRunner {
    const thread = this.#leastBusy();
    const session = (this.#sessions += 1);
    thread.waiting.set(session, []);
    thread.sessions += 1;
    post(thread, { kind: "start", session, plan });
    let state: "open" | "closed" = "open";
    return {
      run: ({ piece, length, position }) =>
        new Promise((resolve, reject) => {
          if (thread.failure !== undefined) {
            reject(thread.failure);
            return;
          }
          thread.waiting.get(session)?.push({ resolve, reject });
          post(thread, { kind: "piece", session, piece, length, position }, [piece.input, piece.output]);
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

  /** Ends all threads; transforms that run end with an error. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.splice(0).map(({ worker }) => worker.terminate()));
  }

  #leastBusy(): Thread {
    const [first] = this.#threads.toSorted((a, b) => a.sessions - b.sessions);
    if (first !== undefined && (first.sessions === 0 || this.#threads.length >= this.#limit)) return first;
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
  const thread: Thread = { worker, waiting: new Map(), sessions: 0, failure: undefined };
  const fail = (cause: unknown) => {
    thread.failure ??= cause;
    for (const list of thread.waiting.values()) for (const { reject } of list.splice(0)) reject(cause);
  };
  worker.on("message", (reply: ThreadReply) => {
    const waiting = thread.waiting.get(reply.session)?.shift();
    if (reply.kind === "done") waiting?.resolve(reply);
    else waiting?.reject(revive(reply));
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
