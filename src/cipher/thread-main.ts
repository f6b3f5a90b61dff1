/** What a cipher thread runs. It sees key material and plaintext of the layers at work, like the thread that started it. */
import { parentPort } from "node:worker_threads";
import { ToolError, describeCause } from "../errors/index.ts";
import { minorCollector } from "./minor-collector.ts";
import { fileSource, intoFile } from "./piece-files.ts";
import { pump } from "./piece-pump.ts";
import { buildWork, localRunner, type PieceWork } from "./runner.ts";
import type { FileWork, ThreadReply, ThreadRequest } from "./thread-messages.ts";

/** Work at hand. The queue makes answers come in the order of the requests; sessions do not wait for each other. */
interface Session {
  readonly built: Promise<PieceWork>;
  /** Rejected after a failure. */
  work: Promise<PieceWork>;
  queue: Promise<void>;
}

const collect = minorCollector();
const sessions = new Map<number, Session>();
/** Ending, pieces that wait are refused; files have a sign of their own. */
let state: "open" | "ending" = "open";
let idleSince = performance.now();

function send(reply: ThreadReply, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(reply, transfer);
}

async function answer(session: Session, request: Extract<ThreadRequest, { kind: "piece" }>): Promise<ThreadReply> {
  try {
    if (state === "ending") throw new Error("the thread was closed");
    const work = await session.work;
    return { kind: "done", session: request.session, ...(await work.run(request, performance.now() - idleSince)) };
  } catch (cause) {
    // What follows a damaged piece must not be worked on as if it stood in its place.
    session.work = Promise.reject(cause);
    session.work.catch(() => undefined);
    return failed(request.session, cause);
  }
}

function failed(session: number, cause: unknown): ThreadReply {
  const { code, hint, details } = cause instanceof ToolError ? cause : { code: "", hint: undefined, details: {} };
  return { kind: "failed", session, code, message: describeCause(cause), hint, details };
}

async function workOnFile(session: number, work: FileWork): Promise<ThreadReply> {
  const { sourcePath, targetPath, plan, stop } = work;
  // In shared memory: a message would not be seen before the file is done, whose work is synchronous.
  const throwIfAborted = (): void => {
    if (Atomics.load(stop, 0) !== 0) throw new Error("the caller wants no more of it");
  };
  try {
    const result = await intoFile({ open: () => fileSource(sourcePath), targetPath }, async (source, sink) => {
      const pumped = await pump({
        ...work,
        source,
        sink,
        plan: () => plan,
        start: localRunner,
        depth: 2,
        writer: "here",
        targetHash: "runner",
        progress(size) {
          collect(size);
          send({ kind: "moved", session, size });
        },
        signal: { throwIfAborted },
      });
      throwIfAborted();
      return pumped;
    });
    return { kind: "filed", session, result };
  } catch (cause) {
    return failed(session, cause);
  }
}

function start({ session, plan }: Extract<ThreadRequest, { kind: "start" }>): void {
  const work = buildWork(plan);
  work.catch(() => undefined);
  sessions.set(session, { built: work, work, queue: Promise.resolve() });
}

/** Behind what its session was asked before. */
function runPiece(request: Extract<ThreadRequest, { kind: "piece" }>): void {
  const session = sessions.get(request.session);
  if (session === undefined) return;
  session.queue = session.queue.then(async () => {
    const reply = await answer(session, request);
    collect(request.length);
    send(reply, reply.kind === "done" ? [reply.piece.input, reply.piece.output] : []);
    idleSince = performance.now();
  });
}

function drop(id: number): void {
  const session = sessions.get(id);
  if (session === undefined) return;
  session.queue = session.queue.then(async () => {
    sessions.delete(id);
    await session.built.then((work) => work.close()).catch(() => undefined);
  });
}

/** Lets go of everything that keeps the thread alive. */
function end(): void {
  state = "ending";
  for (const id of sessions.keys()) drop(id);
  parentPort?.close();
}

parentPort?.on("message", (request: ThreadRequest) => {
  switch (request.kind) {
    case "start":
      return start(request);
    case "file":
      return void workOnFile(request.session, request.work).then((reply) => send(reply));
    case "piece":
      return runPiece(request);
    case "drop":
      return drop(request.session);
    case "stop":
      return end();
  }
});
