import { rootCertificates } from "node:tls";
import { Agent, request } from "undici";
import { parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";

/** Reads small JSON documents over HTTPS. */
export interface FetchJson {
  /** Throws `ERR_KBS_CONFIG_INVALID` for a URL that is not HTTPS and not on loopback. */
  check(url: string): void;
  json(url: string): Promise<unknown>;
}

const timeoutMs = 5_000;
const maxBytes = 1 << 20;

/** Follows no redirect: the keys of an issuer come from where its configuration says. */
export function fetchJson(authorities: string | undefined): FetchJson {
  const agent = new Agent({ connect: authorities === undefined ? {} : { ca: [...rootCertificates, authorities] } });
  const check = (url: string): void => {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    const loopback = parsed !== undefined && /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(parsed.hostname);
    if (parsed?.protocol === "https:" || (parsed?.protocol === "http:" && loopback)) return;
    throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: `${url.slice(0, 200)} is not an https URL` });
  };
  return {
    check,
    json: async (url) => {
      check(url);
      const { statusCode, body } = await request(url, {
        dispatcher: agent,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        // A Kubernetes API server gives its keys as a key set and as nothing else. Source: RFC 7517, section 8.5.2.
        headers: { accept: "application/json, application/jwk-set+json" },
      });
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        size += chunk.length;
        if (size > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
        chunks.push(chunk);
      }
      if (statusCode !== 200) throw new Error(`status ${statusCode}`);
      return parseJson(Buffer.concat(chunks, size), { maxBytes, subject: "the answer" });
    },
  };
}
