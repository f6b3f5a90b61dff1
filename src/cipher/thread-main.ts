/** What a cipher thread runs. It sees key material and plaintext of the layers at work, like the thread that started it. */
import { parentPort } from "node:worker_threads";
import { ToolError, describeCause } from "../errors/index.ts";
import { minorCollector } from "./minor-collector.ts";
import { buildWork, type PieceWork } from "./runner.ts";
import type { ThreadReply, ThreadRequest } from "./thread-messages.ts";

/** Work at hand. The queue makes answers come in the order of the requests; sessions do not wait for each other. */
interface Session {
  work: Promise<PieceWork>;
  queue: Promise<void>;
}

const collect = minorCollector();
const sessions = new Map<number, Session>();

async function answer(session: Session, request: Extract<ThreadRequest, { kind: "piece" }>): Promise<ThreadReply> {
  try {
    const work = await session.work;
    return { kind: "done", session: request.session, ...(await work(request)) };
  } catch (cause) {
    // What follows a damaged piece must not be worked on as if it stood in its place.
    session.work = Promise.reject(cause);
    session.work.catch(() => undefined);
    const { code, hint, details } = cause instanceof ToolError ? cause : { code: "", hint: undefined, details: {} };
    return { kind: "failed", session: request.session, code, message: describeCause(cause), hint, details };
  }
}

parentPort?.on("message", (request: ThreadRequest) => {
  if (request.kind === "start") {
    const work = buildWork(request.plan);
    work.catch(() => undefined);
    sessions.set(request.session, { work, queue: Promise.resolve() });
    return;
  }
  const session = sessions.get(request.session);
  if (session === undefined) return;
  session.queue = session.queue.then(async () => {
    if (request.kind === "drop") {
      sessions.delete(request.session);
      return;
    }
    const reply = await answer(session, request);
    collect(request.length);
    parentPort?.postMessage(reply, reply.kind === "done" ? [reply.piece.input, reply.piece.output] : []);
  });
});
