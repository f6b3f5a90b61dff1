import { availableParallelism } from "node:os";
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";
import { PolicyError } from "../errors.ts";
import type { ThreadBegun, ThreadReply, ThreadRequest } from "./thread-messages.ts";

export interface PolicyThreadsOptions {
  /** An evaluation that takes longer is ended, and its thread with it; 2000 unless told. */
  readonly timeLimitMs?: number | undefined;
  /** Memory of a module; 32 MiB unless told. */
  readonly maxMemoryBytes?: number | undefined;
}

const pageBytes = 64 << 10;
const defaultTimeLimitMs = 2000;
const defaultMaxMemoryBytes = 32 << 20;
const maxWaiting = 200;
/** What a thread has besides the module's memory: the package, and questions and answers as objects. */
const heapLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 };

/**
 * Threads share the code by which WebAssembly calls JavaScript. V8 in Node.js 22 and 24 may free it twice when one thread lets
 * go of a module while another compiles the same code, and the process dies (nodejs/node issue 64500). With this flag such
 * code stays until the end: some hundred bytes for each kind of function that a module may import.
 */
const keepCode = "--no-wasm-code-gc";

interface Job {
  readonly request: Omit<ThreadRequest, "id" | "maxPages">;
  readonly resolve: (reply: ThreadReply) => void;
  readonly reject: (cause: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  job: Job | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Threads that evaluate compiled policies, each one question at a time: at most two, started when first used; they do not
 * keep the process alive. A thread that takes too long, or dies of its memory, is replaced, and its question denied.
 */
export class PolicyThreads {
  readonly #timeLimitMs: number;
  readonly #maxPages: number;
  readonly #limit = Math.min(2, Math.max(1, availableParallelism()));
  readonly #threads = new Set<Thread>();
  readonly #waiting: Job[] = [];
  #id = 0;

  constructor(options: PolicyThreadsOptions = {}) {
    this.#timeLimitMs = options.timeLimitMs ?? defaultTimeLimitMs;
    this.#maxPages = Math.floor((options.maxMemoryBytes ?? defaultMaxMemoryBytes) / pageBytes);
  }

  /** Throws `ERR_POLICY_FAILED`, `ERR_POLICY_ENGINE_MISSING`. */
  ask(request: Job["request"]): Promise<ThreadReply> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length >= maxWaiting) {
        reject(failed(`${maxWaiting} evaluations wait already`));
        return;
      }
      this.#waiting.push({ request, resolve, reject });
      this.#next();
    });
  }

  /**
   * Ends all threads; what waits is refused. They are terminated, as an evaluation that goes on for ever ends in no other way;
   * there is nothing native in such a thread that would be in the middle of something.
   */
  async close(): Promise<void> {
    for (const { reject } of this.#waiting.splice(0)) reject(failed("the service is ending"));
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()));
  }

  #next(): void {
    if (this.#waiting.length === 0) return;
    const thread = [...this.#threads].find(({ job }) => job === undefined) ?? this.#start();
    const job = thread === undefined ? undefined : this.#waiting.shift();
    if (thread === undefined || job === undefined) return;
    thread.job = job;
    // Who waits for an answer must not see the process end; an idle thread is no reason to stay.
    thread.worker.ref();
    thread.worker.postMessage({ ...job.request, id: (this.#id += 1), maxPages: this.#maxPages } satisfies ThreadRequest, []);
  }

  #start(): Thread | undefined {
    if (this.#threads.size >= this.#limit) return undefined;
    setFlagsFromString(keepCode);
    const worker = new Worker(ownModule(), { resourceLimits: heapLimits, env: {}, execArgv: [] });
    const thread: Thread = { worker, job: undefined, timer: undefined };
    this.#threads.add(thread);
    worker.on("message", (message: ThreadReply | ThreadBegun) => {
      if (message.kind === "begun") {
        // Counted from here: the first question of a thread waits until the thread is there.
        thread.timer = setTimeout(() => this.#drop(thread, failed(`it took longer than ${this.#timeLimitMs} ms`)), this.#timeLimitMs);
        return;
      }
      const { job } = thread;
      clearTimeout(thread.timer);
      thread.job = undefined;
      worker.unref();
      if (message.kind === "missing") job?.reject(missing(message.message));
      else job?.resolve(message);
      this.#next();
    });
    worker.on("error", (cause: NodeJS.ErrnoException) => this.#drop(thread, ended(cause)));
    worker.on("exit", () => this.#drop(thread, failed("its thread ended")));
    worker.unref();
    return thread;
  }

  #drop(thread: Thread, why: PolicyError): void {
    if (!this.#threads.delete(thread)) return;
    clearTimeout(thread.timer);
    thread.job?.reject(why);
    thread.job = undefined;
    void thread.worker.terminate();
    this.#next();
  }
}

function ended(cause: NodeJS.ErrnoException): PolicyError {
  switch (cause.code) {
    case "ERR_WORKER_OUT_OF_MEMORY":
      return failed("it took more memory than it may");
    case "ERR_MODULE_NOT_FOUND":
    case "MODULE_NOT_FOUND":
      return missing(cause.message);
    case undefined:
    default:
      return failed("its thread failed", cause);
  }
}

/** The error for a policy that gave no answer, which denies. */
export function failed(why: string, cause?: unknown): PolicyError {
  return new PolicyError("ERR_POLICY_FAILED", { message: `the compiled policy failed: ${why}`, cause });
}

function missing(cause: string): PolicyError {
  return new PolicyError("ERR_POLICY_ENGINE_MISSING", {
    message: "compiled policies need the package @open-policy-agent/opa-wasm, which is not installed",
    hint: "npm install @open-policy-agent/opa-wasm beside ociseal; the single executable does not have it",
    cause: new Error(cause),
  });
}

/** Beside this module, with the same ending: sources run as they are, and compiled. */
function ownModule(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./wasm-thread.ts" : "./wasm-thread.js", import.meta.url);
}
