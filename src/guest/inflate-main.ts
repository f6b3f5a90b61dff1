/** What the thread that inflates runs. It sees verified plaintext only, and no key. */
import { parentPort } from "node:worker_threads";
import { newHasher } from "../bytes/index.ts";
import { minorCollector } from "../cipher/index.ts";
import { InternalError, ToolError, describeCause } from "../errors/index.ts";
import { decompress } from "./decompress.ts";
import type { InflateReply, InflateRequest, Load } from "./inflate-messages.ts";
import { WaitingList } from "./waiting-list.ts";

const collect = minorCollector();
const rooms = new WaitingList<ArrayBuffer>();
let inputs = new WaitingList<Load | undefined>();

function send(reply: InflateReply, transfer: readonly ArrayBuffer[] = []): void {
  parentPort?.postMessage(reply, [...transfer]);
}

async function* pieces(from: WaitingList<Load | undefined>): AsyncGenerator<Uint8Array> {
  for (;;) {
    const input = await from.next();
    if (input === undefined) return;
    yield new Uint8Array(input.memory, 0, input.length);
    send({ kind: "taken" });
  }
}

async function inflate({ compression, algorithm, limits }: Extract<InflateRequest, { kind: "start" }>): Promise<void> {
  const hasher = newHasher(algorithm);
  for await (const chunk of decompress(compression, pieces(inputs), limits)) {
    hasher.update(chunk);
    for (let at = 0; at < chunk.length;) {
      const memory = await rooms.next();
      const part = chunk.subarray(at, at + memory.byteLength);
      new Uint8Array(memory).set(part);
      at += part.length;
      send({ kind: "output", output: { memory, length: part.length } }, [memory]);
    }
    collect(chunk.length);
  }
  send({ kind: "done", digest: hasher.digest() });
}

function failed(cause: unknown): InflateReply {
  const { code, hint, details } = cause instanceof ToolError ? cause : { code: "", hint: undefined, details: {} };
  return { kind: "failed", code, message: describeCause(cause), hint, details };
}

parentPort?.on("message", (request: InflateRequest) => {
  switch (request.kind) {
    case "start":
      inputs = new WaitingList();
      inflate(request).catch((cause: unknown) => send(failed(cause)));
      return;
    case "input":
      return inputs.add(request.input);
    case "end":
      return inputs.add(undefined);
    case "room":
      return rooms.add(request.memory);
    case "stop":
      inputs.fail(new InternalError({ message: "a layer was given up" }));
      rooms.fail(new InternalError({ message: "a layer was given up" }));
      parentPort?.close();
  }
});
