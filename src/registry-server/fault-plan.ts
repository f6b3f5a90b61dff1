import { gzipSync } from "node:zlib";
import { collect, type ByteStage, type Chunks } from "../bytes/index.ts";
import type { FaultAction, FaultRule, Operation } from "./fault-rule.ts";
import { bytesReply, sizeOfBody, type Reply } from "./reply.ts";
import { Readable } from "node:stream";

/** What a rule sees of a request. */
export interface FaultRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly origin: string;
  readonly operation: Operation | undefined;
}

/** How the answer leaves the server when it is not in order. */
export interface Delivery {
  readonly reply: Reply;
  /** Applied to the body on its way out. */
  readonly stages: readonly ByteStage[];
  /** What the size header says, where it is not the size of the body. */
  readonly announcedSize: number | undefined;
}

/** Thrown by a body stage or by {@link applyToReply}: ends the connection. */
export class ConnectionCut extends Error {
  readonly how: "reset" | "close" | "silence";
  constructor(how: "reset" | "close" | "silence") {
    super(`the connection ends by a fault rule (${how})`);
    this.how = how;
  }
}

/** Largest body that a rule holds in memory to compress it. */
const maxHeldBytes = 64 * 1024 * 1024;

/** The rules of one server with their counts. */
export class FaultPlan {
  readonly #rules: { readonly rule: FaultRule; readonly pattern: RegExp | undefined; seen: number }[] = [];

  constructor(rules: readonly FaultRule[]) {
    for (const rule of rules) this.add(rule);
  }

  add(rule: FaultRule): void {
    this.#rules.push({ rule, pattern: rule.match.path === undefined ? undefined : globToRegExp(rule.match.path), seen: 0 });
  }

  clear(): void {
    this.#rules.length = 0;
  }

  /** The actions that hit this request; counts it for every rule that matches. */
  actionsFor(request: FaultRequest): readonly FaultAction[] {
    return this.#rules.flatMap((entry) => {
      const { match } = entry.rule;
      if (match.method !== undefined && match.method.toUpperCase() !== request.method) return [];
      if (match.operation !== undefined && !([match.operation].flat() as (Operation | undefined)[]).includes(request.operation)) return [];
      if (entry.pattern?.test(request.path) === false) return [];
      entry.seen += 1;
      const from = match.from ?? 1;
      const count = match.count === "all" ? Infinity : (match.count ?? 1);
      return entry.seen >= from && entry.seen < from + count ? entry.rule.do : [];
    });
  }
}

/** The answer that is given without asking the registry, if an action says so. Waits, or throws a {@link ConnectionCut}. */
export async function beforeHandling(
  actions: readonly FaultAction[],
  request: FaultRequest,
  sleep: (ms: number) => Promise<void>,
): Promise<Reply | undefined> {
  for (const action of actions) {
    if (action.kind === "delay") await sleep(action.ms);
    if (action.kind === "respond") return replyOf(action, request);
    if (action.kind === "hang") throw new ConnectionCut("silence");
    if (action.kind === "reset" && action.afterRequestBytes === undefined && action.afterResponseBytes === undefined)
      throw new ConnectionCut("reset");
  }
  return undefined;
}

/** What an action does to the request's body on its way to the registry. */
export function requestStages(actions: readonly FaultAction[]): readonly ByteStage[] {
  return actions.flatMap((action) =>
    action.kind === "reset" && action.afterRequestBytes !== undefined ? [cutAfter(action.afterRequestBytes, "reset")] : [],
  );
}

/** Changes an answer of the registry as the actions say. */
export async function applyToReply(actions: readonly FaultAction[], request: FaultRequest, original: Reply): Promise<Delivery> {
  let reply = original;
  let announcedSize: number | undefined;
  const stages: ByteStage[] = [];
  const announce = () => (announcedSize ??= sizeOfBody(reply.body));
  const adjust = (size: number) => {
    announcedSize = Math.max(size, 0);
  };
  for (const action of actions) {
    switch (action.kind) {
      case "lose-answer":
        throw new ConnectionCut("reset");
      case "answer-instead":
        reply = replyOf(action, request);
        break;
      case "status":
        reply = { ...reply, status: action.status };
        break;
      case "headers":
        reply = { ...reply, headers: { ...reply.headers, ...fill(action.set, request) } };
        break;
      case "body":
        reply = bytesReply(
          reply.status,
          Buffer.from(action.base64 ?? action.text ?? "", action.base64 === undefined ? "utf8" : "base64"),
          reply.headers,
        );
        break;
      case "gzip":
        reply = await compressed(reply);
        break;
      case "flip":
        stages.push(flipAt(action.at));
        break;
      case "truncate":
        if (action.size === "announced") announce();
        else adjust(Math.min(action.at, announcedSize ?? sizeOfBody(reply.body)));
        stages.push(action.size === "announced" ? cutAfter(action.at, "close") : endAfter(action.at));
        break;
      case "extra":
        if (action.size === "announced") announce();
        else adjust((announcedSize ?? sizeOfBody(reply.body)) + Buffer.byteLength(action.text));
        stages.push(appendText(action.text));
        break;
      case "reset":
        if (action.afterResponseBytes !== undefined) stages.push(cutAfter(action.afterResponseBytes, "reset"));
        break;
      case "stall":
        stages.push(cutAfter(action.at, "silence"));
        break;
      case "drip":
        stages.push(drip(action.bytes, action.everyMs));
        break;
      case "delay":
      case "respond":
      case "hang":
      case "raw":
      case "ignore-range":
        break;
    }
  }
  return { reply, stages, announcedSize };
}

function replyOf(action: Extract<FaultAction, { kind: "respond" | "answer-instead" }>, request: FaultRequest): Reply {
  const body = fillText(action.body ?? "", request);
  return bytesReply(action.status, Buffer.from(body), fill(action.headers ?? {}, request));
}

async function compressed(reply: Reply): Promise<Reply> {
  if (reply.body.kind === "none") return reply;
  const source: Chunks = reply.body.kind === "bytes" ? Readable.from([reply.body.bytes]) : await reply.body.open();
  const bytes = await collect(source, { maxBytes: maxHeldBytes, subject: "body to compress" });
  return bytesReply(reply.status, gzipSync(bytes), { ...reply.headers, "content-encoding": "gzip" });
}

function cutAfter(limit: number, how: ConnectionCut["how"]): ByteStage {
  return async function* (source) {
    let position = 0;
    for await (const chunk of source) {
      if (position + chunk.length >= limit) {
        if (limit > position) yield chunk.subarray(0, limit - position);
        throw new ConnectionCut(how);
      }
      position += chunk.length;
      yield chunk;
    }
    throw new ConnectionCut(how);
  };
}

function endAfter(limit: number): ByteStage {
  return async function* (source) {
    let position = 0;
    for await (const chunk of source) {
      const rest = limit - position;
      if (rest <= 0) return;
      yield chunk.subarray(0, rest);
      position += chunk.length;
    }
  };
}

function flipAt(at: number): ByteStage {
  return async function* (source) {
    let position = 0;
    for await (const chunk of source) {
      if (at >= position && at < position + chunk.length) {
        const changed = Buffer.from(chunk);
        changed[at - position] = (changed[at - position] ?? 0) ^ 1;
        yield changed;
      } else yield chunk;
      position += chunk.length;
    }
  };
}

function appendText(text: string): ByteStage {
  return async function* (source) {
    yield* source;
    yield Buffer.from(text);
  };
}

function drip(bytes: number, everyMs: number): ByteStage {
  return async function* (source) {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += bytes) {
        yield chunk.subarray(at, at + bytes);
        await new Promise((resolve) => setTimeout(resolve, everyMs));
      }
    }
  };
}

function fill(headers: Readonly<Record<string, string | readonly string[]>>, request: FaultRequest): Reply["headers"] {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name.toLowerCase(),
      typeof value === "string" ? fillText(value, request) : value.map((item) => fillText(item, request)),
    ]),
  );
}

function fillText(text: string, request: FaultRequest): string {
  return text
    .replaceAll("{path}", () => request.path)
    .replaceAll("{query}", () => request.query)
    .replaceAll("{origin}", () => request.origin);
}

function globToRegExp(glob: string): RegExp {
  const parts = glob
    .split(/(\*\*|\*)/)
    .map((part) => (part === "**" ? ".*" : part === "*" ? "[^/]*" : part.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`)));
  return new RegExp(`^${parts.join("")}$`);
}
