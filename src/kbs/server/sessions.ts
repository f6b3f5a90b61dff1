import { deflateRawSync, inflateRawSync } from "node:zlib";
import { decodeBase64Url, encodeBase64Url } from "../../bytes/index.ts";
import { decrypt, encrypt, keyObjectOf } from "../keys/envelope.ts";
import type { Keyring } from "../keys/keyring.ts";
import { sessionCookieName } from "../protocol/messages.ts";
import { isProtocolVersion, type AuthRequest } from "../protocol/messages.ts";
import { parseOwnJson } from "../protocol/own-json.ts";
import { isObject } from "../protocol/shape.ts";
import { teeNamed } from "../protocol/tee-names.ts";
import { freshBytes } from "../random.ts";
import type { Nonces } from "./nonces.ts";

/** A handshake on its way, or done. */
export interface Session {
  readonly id: string;
  readonly request: AuthRequest;
  /** Base64 (standard) of 32 random bytes. */
  readonly nonce: string;
  readonly expiresAt: Date;
  /** The token, once attested. */
  readonly token: string | undefined;
}

const purpose = "session cookie";
/** Id of the key, and the form of what follows. */
const headSize = 9;
const forms = { text: 0, deflated: 1, withToken: 2 } as const;
/** A guest with many devices: its token would not fit into a request's head. */
const deflateFrom = 12 << 10;
/** Half the time of the defaults, and the same size but for a percent: a token is short and repeats itself nearby. */
const deflateOptions = { level: 3, memLevel: 6, windowBits: 13, chunkSize: 8 << 10 } as const;
const maxTextSize = 1 << 20;
/** Tokens beyond this stay in this process instead of the cookie: request heads are limited. */
const maxCookieSize = 24 << 10;
/** A hundred bytes each. */
const maxAttested = 50_000;
/** Characters of tokens: those of some three thousand guests. */
const maxTokens = 8 << 20;

/**
 * Sessions without a table: the cookie carries the session, sealed with a key that all replicas share.
 *
 * So an open session costs nothing, however many strangers begin one, and any replica can go on with it. What a cookie
 * cannot do is to be used up; therefore each process remembers the sessions that it attested: a second attestation in
 * one gets the token of the first, or is refused when that is not kept any more, and no new evidence is judged against an
 * old nonce.
 */
export class Sessions {
  readonly #keyring: Keyring;
  readonly #nonces: Nonces;
  readonly #lifetimeMs: number;
  /** When each expires, by id, oldest first. */
  readonly #attested = new Map<string, number>();
  /** The tokens of the last of these. */
  readonly #tokens = new Map<string, string>();
  #tokensSize = 0;
  /** Sessions whose evidence is being judged. */
  readonly #judged = new Set<string>();

  constructor(keyring: Keyring, options: { readonly nonces: Nonces; readonly lifetimeMs: number }) {
    this.#keyring = keyring;
    this.#nonces = options.nonces;
    this.#lifetimeMs = options.lifetimeMs;
  }

  begin(request: AuthRequest, now: Date): Session {
    return {
      id: freshBytes(16).toString("hex"),
      request,
      nonce: this.#nonces.make(),
      expiresAt: new Date(now.getTime() + this.#lifetimeMs),
      token: undefined,
    };
  }

  /**
   * Judges the evidence of one session, unless other evidence of it is being judged: two at once would both be held to one
   * nonce. Returns `"taken"` then.
   */
  async judging<Result>(session: Session, work: () => Promise<Result>): Promise<Result | "taken"> {
    if (this.#judged.has(session.id)) return "taken";
    this.#judged.add(session.id);
    try {
      return await work();
    } finally {
      this.#judged.delete(session.id);
    }
  }

  /** Marks a session as attested. */
  attest(session: Session, token: string, now: Date): Session {
    this.#attested.set(session.id, session.expiresAt.getTime());
    this.#dropToken(session.id);
    this.#tokens.set(session.id, token);
    this.#tokensSize += token.length;
    this.#forget(now);
    return { ...session, token };
  }

  /** Whether a session was attested, be its token known or not: its nonce is used up. */
  isAttested(session: Session): boolean {
    return session.token !== undefined || this.#attested.has(session.id);
  }

  /** The cookie header that carries a session. */
  cookieOf(session: Session, transport: "tls" | "plain"): string {
    const text = this.#seal(session);
    const carried = text.length <= maxCookieSize ? text : this.#seal({ ...session, token: undefined });
    const attributes = `Expires=${session.expiresAt.toUTCString()}; Path=/kbs/v0; HttpOnly; SameSite=Strict${transport === "tls" ? "; Secure" : ""}`;
    return `${sessionCookieName}=${carried}; ${attributes}`;
  }

  /** The session in a cookie: `"malformed"` when it is not one of ours, `"expired"` when it was. */
  open(cookie: string, now: Date): Session | "malformed" | "expired" {
    const session = this.#unseal(cookie);
    if (session === undefined) return "malformed";
    if (session.expiresAt <= now) return "expired";
    return session.token === undefined ? { ...session, token: this.#tokens.get(session.id) } : session;
  }

  #seal(session: Session): string {
    const [key] = this.#keyring.derivedSecrets(purpose);
    if (key === undefined) return "";
    const { form, bytes } = packed(session);
    const head = Buffer.concat([Buffer.from(key.id, "hex"), Buffer.of(form)]);
    return encodeBase64Url(Buffer.concat([head, encrypt(bytes, keyObjectOf(key.secret), head)]));
  }

  #unseal(cookie: string): Session | undefined {
    try {
      const bytes = decodeBase64Url(cookie);
      const head = bytes.subarray(0, headSize);
      const key = this.#keyring.derivedSecrets(purpose).find(({ id }) => id === head.toString("hex", 0, 8));
      if (key === undefined) return undefined;
      return unpacked(head[headSize - 1] ?? -1, decrypt(bytes.subarray(headSize), keyObjectOf(key.secret), head));
    } catch {
      // A stranger's cookie, a cut one, or one of another installation: all the same, no session.
      return undefined;
    }
  }

  #forget(now: Date): void {
    for (const [id, expiresAt] of this.#attested) {
      if (expiresAt > now.getTime() && this.#attested.size <= maxAttested) break;
      this.#attested.delete(id);
      this.#dropToken(id);
    }
    for (const id of this.#tokens.keys()) {
      if (this.#tokensSize <= maxTokens) break;
      this.#dropToken(id);
    }
  }

  #dropToken(id: string): void {
    this.#tokensSize -= this.#tokens.get(id)?.length ?? 0;
    this.#tokens.delete(id);
  }
}

/**
 * A session as bytes. Its token goes behind the text, in the bytes that its three parts encode: a quarter less, as much as
 * deflating it would save in ten times the time.
 */
function packed(session: Session): { readonly form: number; readonly bytes: Buffer } {
  const { id, request, nonce, expiresAt, token } = session;
  const members = { id, v: request.version, tee: request.tee, nonce, exp: expiresAt.getTime() };
  const parts = token === undefined || token.length > deflateFrom ? undefined : partsOf(token);
  if (parts !== undefined) {
    const sizes = parts.map(({ length }) => length);
    return { form: forms.withToken, bytes: Buffer.concat([Buffer.from(`${JSON.stringify({ ...members, sizes })}\0`, "utf8"), ...parts]) };
  }
  const text = Buffer.from(JSON.stringify({ ...members, token }), "utf8");
  if (text.length <= deflateFrom) return { form: forms.text, bytes: text };
  return { form: forms.deflated, bytes: deflateRawSync(text, deflateOptions) };
}

/** The bytes of a token's parts; `undefined` when the token cannot be made of them again, bit for bit. */
function partsOf(token: string): readonly Buffer[] | undefined {
  const parts = token.split(".").map((part) => Buffer.from(part, "base64url"));
  return parts.map(encodeBase64Url).join(".") === token ? parts : undefined;
}

function unpacked(form: number, bytes: Buffer): Session | undefined {
  switch (form) {
    case forms.text:
      return parseSession(parseOwnJson(bytes));
    case forms.deflated:
      return parseSession(parseOwnJson(inflateRawSync(bytes, { maxOutputLength: maxTextSize })));
    case forms.withToken: {
      // A text of JSON holds no zero byte.
      const end = bytes.indexOf(0);
      const members = parseOwnJson(bytes.subarray(0, end));
      if (!isObject(members) || !Array.isArray(members["sizes"])) return undefined;
      let at = end + 1;
      const parts = members["sizes"].map((size: unknown) => encodeBase64Url(bytes.subarray(at, (at += Number(size)))));
      return parseSession({ ...members, token: parts.join(".") });
    }
    default:
      return undefined;
  }
}

function parseSession(value: unknown): Session | undefined {
  if (!isObject(value)) return undefined;
  const { id, v, tee, nonce, exp, token } = value;
  if (typeof id !== "string" || typeof v !== "string" || !isProtocolVersion(v) || typeof tee !== "string") return undefined;
  if (typeof nonce !== "string" || typeof exp !== "number" || (token !== undefined && typeof token !== "string")) return undefined;
  const name = teeNamed(tee, v);
  return name === undefined ? undefined : { id, request: { version: v, tee: name }, nonce, expiresAt: new Date(exp), token };
}
