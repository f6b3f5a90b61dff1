import { KbsError } from "../errors.ts";
import {
  jsonOf,
  KbsTransport,
  problemOf,
  type CallOptions,
  type KbsTransportOptions,
  type Problem,
  type WireResponse,
} from "./transport.ts";

/** Where an administration token comes from; asked again for each request. */
export type TokenSource = (options: CallOptions) => Promise<string>;

export interface AdminRequest extends CallOptions {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: Uint8Array | string | undefined;
  /** Sent as JSON. */
  readonly json?: unknown;
}

/** Requests with an administration token. */
export class AdminCall {
  readonly #transport: KbsTransport;
  readonly #token: TokenSource | undefined;

  /** Without a token, the client certificate must do. */
  constructor(options: KbsTransportOptions, token: string | TokenSource | undefined) {
    this.#transport = new KbsTransport(options);
    this.#token = typeof token === "string" ? () => Promise.resolve(token) : token;
  }

  async send(request: AdminRequest): Promise<WireResponse> {
    const token = await this.#token?.(request);
    const { json, headers, body, ...rest } = request;
    const content = json === undefined ? body : JSON.stringify(json);
    return this.#transport.send({
      ...rest,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(content === undefined ? {} : { body: content }),
    });
  }

  /** Sends, and demands 200. */
  async ok(request: AdminRequest, what: string): Promise<WireResponse> {
    return expectOk(await this.send(request), what);
  }

  /** Sends, demands 200, and parses the JSON answer. */
  async json(request: AdminRequest, what: string): Promise<unknown> {
    return jsonOf(await this.ok(request, what), `the answer to "${what}"`);
  }

  close(): Promise<void> {
    return this.#transport.close();
  }
}

/** Whether an answer comes from our service; Trustee knows none of the paths below `/api`. */
export function isOurs(response: WireResponse): boolean {
  return response.header("ociseal-kbs").length > 0;
}

/**
 * Errors of Trustee that are no word about the token, though their status is 401 as well. Seen at Trustee 0.21, and in
 * its sources since 0.13; those of its `[admin]` section all begin with `AdminAuth`.
 */
const notAboutTheToken: ReadonlySet<string> = new Set([
  "AttestationError",
  "InvalidRequestPath",
  "ParsePolicyError",
  "PluginInternalError",
  "PolicyEngine",
  "PolicyEngineError",
  "RvpsError",
  "SerdeError",
]);
/** What Trustee says when it takes a request for one of a guest: no administrator can make it here. */
const takenForAGuest: ReadonlySet<string> = new Set(["TokenNotFound", "TokenVerifierError"]);

/** The error for what a service that is not ours does not offer. */
export function notOffered(what: string, details: Readonly<Record<string, unknown>> = {}): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", {
    message: `the Key Broker Service did not ${what}: it is not ociseal kbs, and does not offer this`,
    details,
    hint: "a Trustee server stores and deletes resources, and takes Rego policies and reference values; the rest needs ociseal kbs",
  });
}

/** Success is exactly 200: tools that looked at less have pushed images whose keys nobody held. */
export function expectOk(response: WireResponse, what: string): WireResponse {
  if (response.status === 200) return response;
  const problem = problemOf(response);
  if (!isOurs(response)) refuseAsTrustee(problem, what);
  const message = `the Key Broker Service did not ${what}: ${problem.detail || `status ${problem.status}`}`;
  const details = { status: problem.status, type: problem.type, code: problem.code, requestId: problem.requestId };
  switch (problem.status) {
    case 401:
    case 403:
      throw new KbsError("ERR_KBS_ADMIN_DENIED", {
        message,
        details,
        hint: "check the administration token (--admin-token, or --kbs-admin-token): its expiry, its role, and the paths it covers",
      });
    case 404:
      throw new KbsError("ERR_KBS_NOT_FOUND", {
        message,
        details,
        hint: "check the name; ociseal kbs resource list, key list and policy list show what there is",
      });
    case 409:
      throw new KbsError("ERR_KBS_CONFLICT", {
        message,
        details,
        hint: "look at what is there now, and choose another name or change that",
      });
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      throw new KbsError("ERR_KBS_OVERLOADED", { message, details, hint: "try again later" });
    default:
      throw new KbsError("ERR_KBS_REQUEST_REFUSED", {
        message,
        details,
        hint: "correct what the message names; ask for the service's log with the request's number",
      });
  }
}

/** Throws for what Trustee's own errors say more exactly than their status. */
function refuseAsTrustee(problem: Problem, what: string): void {
  const { status, type, detail } = problem;
  // Without a body: a path, or a method of it, that its router does not know.
  const unknownPath = status === 404 && (type === "PluginNotFound" || (type === "" && detail === ""));
  if (unknownPath || status === 405 || (status === 401 && takenForAGuest.has(type))) throw notOffered(what, { status, type });
  if (status === 401 && notAboutTheToken.has(type)) {
    throw new KbsError("ERR_KBS_REQUEST_REFUSED", {
      message: `the Key Broker Service did not ${what}: ${detail}`,
      details: { status, type },
      hint: "the token was accepted, the request was not; Trustee's log says more",
    });
  }
}

/** The error for an answer that lacks what it should have. */
export function malformedAnswer(what: string): KbsError {
  return new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: `an answer of the Key Broker Service has no ${what}` });
}
