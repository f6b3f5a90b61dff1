import { createHash, randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import type { Dispatcher } from "undici";
import { collect, decodeBase64Url, parseJson } from "../../bytes/index.ts";
import type { CallOptions } from "../../store/index.ts";
import { SigningError } from "../errors.ts";
import type { JsonObject } from "../shape.ts";

/** Gives an OpenID Connect token for Fulcio; asked again when one is used up. Tokens stand in no message. */
export type IdentityTokenSource = (options: CallOptions) => Promise<string>;

const maxTokenBytes = 64 * 1024;

/**
 * Checks that a text is a token that has not expired, and gives it back trimmed. Nothing else in it is believed here:
 * Fulcio verifies it. Throws `ERR_IDENTITY_TOKEN`, without the token.
 */
export function checkIdentityToken(text: string, now: Date): string {
  const token = text.trim();
  const [, payload, ...more] = token.split(".");
  if (payload === undefined || more.length !== 1) throw badToken("it is not a JWT");
  let claims: JsonObject;
  try {
    claims = parseJson(decodeBase64Url(payload, "token"), { maxBytes: maxTokenBytes, subject: "token" }) as JsonObject;
  } catch {
    // The decoder's message could repeat a part of the token.
    throw badToken("its claims cannot be decoded");
  }
  const { exp } = claims;
  if (typeof exp === "number" && exp * 1000 <= now.getTime()) throw badToken(`it expired at ${new Date(exp * 1000).toISOString()}`);
  return token;
}

/** The endpoint that a GitHub Actions job finds in `ACTIONS_ID_TOKEN_REQUEST_URL` and `…_TOKEN`. */
export interface GithubTokenRequest {
  readonly requestUrl: string;
  readonly requestToken: string;
  readonly audience?: string | undefined;
  readonly dispatcher?: Dispatcher | undefined;
}

/** Asks GitHub for the job's token. Throws `ERR_IDENTITY_TOKEN`. */
export function tokenFromGithub({ requestUrl, requestToken, audience = "sigstore", dispatcher }: GithubTokenRequest): IdentityTokenSource {
  return async ({ signal }) => {
    const url = new URL(requestUrl);
    url.searchParams.set("audience", audience);
    const answer = await callJson(url, {
      headers: { authorization: `Bearer ${requestToken}`, accept: "application/json" },
      dispatcher,
      signal,
    });
    if (answer.status !== 200 || typeof answer.body["value"] !== "string")
      throw badToken(`GitHub answered ${answer.status} without a token`);
    return answer.body["value"];
  };
}

/** What the user does elsewhere while we wait. */
export interface DevicePrompt {
  readonly verificationUrl: string;
  readonly userCode: string;
}

export interface DeviceFlowRequest {
  /** `https://oauth2.sigstore.dev/auth` or that of a private deployment. */
  readonly issuer: string;
  readonly clientId: string;
  readonly prompt: (prompt: DevicePrompt) => void;
  readonly dispatcher?: Dispatcher | undefined;
}

/** The device flow waits this long at most, whatever the issuer says. */
const deviceLimits = { minIntervalMs: 1000, maxWaitMs: 10 * 60 * 1000 } as const;

/**
 * Lets a person sign in on another device. Throws `ERR_IDENTITY_TOKEN`.
 * Source: RFC 8628; OpenID Connect Discovery 1.0; RFC 7636, so that a device code alone is worth nothing.
 */
export function tokenFromDeviceFlow({ issuer, clientId, prompt, dispatcher }: DeviceFlowRequest): IdentityTokenSource {
  return async ({ signal }) => {
    const discovery = await callJson(new URL(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`), { dispatcher, signal });
    const deviceUrl = endpoint(discovery.body, "device_authorization_endpoint", issuer);
    const tokenUrl = endpoint(discovery.body, "token_endpoint", issuer);
    const verifier = randomBytes(32).toString("base64url");
    const challenge = createHash("sha256").update(verifier).digest("base64url");
    const asked = { client_id: clientId, scope: "openid email", code_challenge_method: "S256", code_challenge: challenge };
    const { body: started } = await callJson(deviceUrl, { form: asked, dispatcher, signal });
    const {
      device_code: code,
      user_code: userCode,
      verification_uri_complete: complete,
      verification_uri: plain,
      interval = 5,
      expires_in: lifetime = 300,
    } = started;
    const verificationUrl = complete ?? plain;
    if (typeof code !== "string" || typeof userCode !== "string" || typeof verificationUrl !== "string")
      throw badToken("the issuer started no device flow");
    prompt({ verificationUrl, userCode });
    const deadline = Math.min(deviceLimits.maxWaitMs, Number(lifetime) * 1000);
    let pauseMs = Math.max(deviceLimits.minIntervalMs, Number(interval) * 1000 || 0);
    for (let waitedMs = 0; waitedMs < deadline; waitedMs += pauseMs) {
      await wait(pauseMs, undefined, signal === undefined ? {} : { signal });
      const grant = { grant_type: "urn:ietf:params:oauth:grant-type:device_code", device_code: code, client_id: clientId };
      const form = { ...grant, code_verifier: verifier };
      const { body } = await callJson(tokenUrl, { form, dispatcher, signal });
      if (typeof body["id_token"] === "string") return body["id_token"];
      if (body["error"] === "slow_down") pauseMs += 5000;
      else if (body["error"] !== "authorization_pending") throw badToken("the issuer refused the sign-in");
    }
    throw badToken("nobody signed in in time");
  };
}

interface JsonCall {
  readonly headers?: Readonly<Record<string, string>>;
  readonly form?: Readonly<Record<string, string>>;
  readonly dispatcher?: Dispatcher | undefined;
  readonly signal?: AbortSignal | undefined;
}

const callTimeoutMs = 30_000;

async function callJson(
  url: URL,
  { headers = {}, form, dispatcher, signal }: JsonCall,
): Promise<{ readonly status: number; readonly body: JsonObject }> {
  const { fetch } = await import("undici");
  const timeout = AbortSignal.timeout(callTimeoutMs);
  try {
    const response = await fetch(url, {
      headers,
      redirect: "error",
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      ...(form === undefined ? {} : { method: "POST", body: new URLSearchParams(form) }),
      ...(dispatcher === undefined ? {} : { dispatcher }),
    });
    const limits = { maxBytes: maxTokenBytes, subject: "answer" };
    const bytes = response.body === null ? Buffer.alloc(0) : await collect(response.body, limits);
    const body = parseJson(bytes, limits);
    return { status: response.status, body: typeof body === "object" && body !== null ? (body as JsonObject) : {} };
  } catch (cause) {
    signal?.throwIfAborted();
    // Only the host: the path and query of such URLs are credentials.
    throw new SigningError("ERR_SIGNING_SERVICE", {
      message: `${url.host} could not be asked for an identity token`,
      hint: "try again; check proxy and network",
      cause,
    });
  }
}

function endpoint(document: JsonObject, name: string, issuer: string): URL {
  const value = document[name];
  if (typeof value !== "string" || !URL.canParse(value)) throw badToken(`the issuer ${issuer} names no ${name}`);
  const url = new URL(value);
  // A code sent over plain HTTP is anybody's; loopback is for tests and private brokers on the same machine.
  if (url.protocol !== "https:" && !["127.0.0.1", "localhost", "[::1]"].includes(url.hostname))
    throw badToken(`the ${name} of ${issuer} is not https`);
  return url;
}

function badToken(complaint: string): SigningError {
  return new SigningError("ERR_IDENTITY_TOKEN", {
    message: `no usable identity token: ${complaint}`,
    hint: "give an OpenID Connect token with the audience sigstore (--identity-token FILE), or run in a GitHub or GitLab job that may ask for one",
  });
}
