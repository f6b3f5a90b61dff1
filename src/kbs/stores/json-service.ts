import { rootCertificates } from "node:tls";
import { Agent, request } from "undici";
import { parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";

export interface JsonServiceOptions {
  /** `https://vault.example:8200`. */
  readonly url: string;
  /** What to call it in messages. */
  readonly name: string;
  /** PEM; added to the system's authorities. */
  readonly authorities?: string | undefined;
}

export interface JsonAnswer {
  readonly status: number;
  /** `undefined` when there is no body, or it is not JSON. */
  readonly value: unknown;
}

const timeoutMs = 10_000;
const maxBytes = 16 << 20;

/** A service with JSON over HTTP that a store stands on. Connections are kept; nothing is retried here. */
export class JsonService {
  readonly name: string;
  readonly #url: string;
  readonly #agent: Agent;

  /** Throws `ERR_KBS_CONFIG_INVALID` for plain HTTP off loopback: every request carries a token. */
  constructor(options: JsonServiceOptions) {
    const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
    const loopback = url !== undefined && /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
    if (url === undefined || (url.protocol !== "https:" && !(url.protocol === "http:" && loopback))) {
      throw new KbsError("ERR_KBS_CONFIG_INVALID", {
        message: `the URL of ${options.name} is not https (plain http is for loopback only)`,
      });
    }
    this.name = options.name;
    this.#url = url.href.replace(/\/$/, "");
    this.#agent = new Agent({
      connections: 16,
      connect: options.authorities === undefined ? {} : { ca: [...rootCertificates, options.authorities] },
    });
  }

  /** Throws `ERR_KBS_STORE_UNAVAILABLE` when no answer comes. */
  async call(
    method: string,
    path: string,
    more: { readonly headers?: Record<string, string>; readonly json?: unknown } = {},
  ): Promise<JsonAnswer> {
    const { status, bytes } = await this.#send(method, path, more);
    return { status, value: jsonOf(bytes) };
  }

  /** As {@link call}, for answers that are plain text. */
  async text(method: string, path: string, json: unknown): Promise<{ readonly status: number; readonly text: string }> {
    const { status, bytes } = await this.#send(method, path, { json });
    return { status, text: bytes.toString("utf8") };
  }

  async #send(method: string, path: string, more: { readonly headers?: Record<string, string>; readonly json?: unknown }) {
    try {
      const { statusCode, body } = await request(`${this.#url}${path}`, {
        dispatcher: this.#agent,
        method: method as "GET",
        headers: {
          accept: "application/json",
          ...(more.json === undefined ? {} : { "content-type": "application/json" }),
          ...more.headers,
        },
        body: more.json === undefined ? null : JSON.stringify(more.json),
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
      });
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        size += chunk.length;
        if (size > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
        chunks.push(chunk);
      }
      return { status: statusCode, bytes: Buffer.concat(chunks, size) };
    } catch (cause) {
      throw this.away(describeCause(cause), cause);
    }
  }

  close(): Promise<void> {
    return this.#agent.close();
  }

  /** The error for a service that cannot do its work now. */
  away(why: string, cause?: unknown): KbsError {
    return new KbsError("ERR_KBS_STORE_UNAVAILABLE", { message: `${this.name} does not answer: ${why}`, cause });
  }

  /** The error for an answer that nobody expected. */
  failed(what: string, answer: JsonAnswer, hint?: string): KbsError {
    return new KbsError(isAway(answer.status) ? "ERR_KBS_STORE_UNAVAILABLE" : "ERR_KBS_STORE_FAILED", {
      message: `${this.name} did not ${what} (status ${answer.status})`,
      details: { status: answer.status },
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** Whether a service that answers so may do its work later: busy, sealed, standing by or pointing at another, or not yet where it was told to be. */
export function isAway(status: number): boolean {
  return [307, 412, 429, 472, 473].includes(status) || status >= 500;
}

function jsonOf(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined;
  try {
    return parseJson(bytes, { maxBytes });
  } catch {
    // A proxy's error page: the status says enough.
    return undefined;
  }
}
