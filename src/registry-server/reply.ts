import type { ByteStream } from "../bytes/index.ts";
import type { PieceSink } from "./storage.ts";
import type { Refusal } from "./refusal.ts";

/** What a handler answers with. `open` or `copyTo` is called only when the body is really sent (not for HEAD). */
export type ReplyBody =
  | { readonly kind: "none" }
  | { readonly kind: "bytes"; readonly bytes: Buffer }
  | {
      readonly kind: "stream";
      readonly size: number;
      readonly open: () => Promise<ByteStream>;
      readonly copyTo: (sink: PieceSink) => Promise<void>;
    };

/** An answer as a value, so that vendor profiles and fault rules can change it before a byte is sent. Header names are in lower case. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: ReplyBody;
}

export function emptyReply(status: number, headers: Reply["headers"] = {}): Reply {
  return { status, headers, body: { kind: "none" } };
}

export function bytesReply(status: number, bytes: Buffer, headers: Reply["headers"]): Reply {
  return { status, headers, body: { kind: "bytes", bytes } };
}

export function jsonReply(status: number, value: unknown, headers: Reply["headers"] = {}): Reply {
  return bytesReply(status, Buffer.from(JSON.stringify(value)), { "content-type": "application/json", ...headers });
}

/** Source: OCI distribution-spec, "Error Codes". */
export function refusalReply(refusal: Refusal): Reply {
  const entry = { code: refusal.code, message: refusal.message, ...(refusal.detail === undefined ? {} : { detail: refusal.detail }) };
  return jsonReply(refusal.status, { errors: [entry] }, refusal.headers);
}

/** Size of a body in bytes. */
export function sizeOfBody(body: ReplyBody): number {
  switch (body.kind) {
    case "none":
      return 0;
    case "bytes":
      return body.bytes.length;
    case "stream":
      return body.size;
  }
}
