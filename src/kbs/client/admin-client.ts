import { randomBytes } from "node:crypto";
import { decodeBase64Url, encodeBase64Url, equalBytes } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { challengeSize, confirmationOf } from "../protocol/confirmation.ts";
import { formatResourcePath, formatResourceUri, parseResourceUri } from "../protocol/resource-path.ts";
import { protocolPrefix } from "../protocol/messages.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import type { KbsClient } from "./kbs-client.ts";
import { jsonOf, KbsTransport, problemOf, type CallOptions, type KbsTransportOptions, type WireResponse } from "./transport.ts";

/** Where an administration token comes from; asked again for each request. */
export type TokenSource = (options: CallOptions) => Promise<string>;

export interface KbsAdminOptions extends KbsTransportOptions {
  readonly token: string | TokenSource;
  /**
   * A guest that the service releases to, to prove a registration at a service that lets administrators read nothing
   * (Trustee): the value is fetched through it.
   */
  readonly verifyWith?: KbsClient | undefined;
}

export interface PutOptions extends CallOptions {
  /** `absent`: only when there is none; a version: only in its place; overwrite otherwise. */
  readonly condition?: "any" | "absent" | { readonly version: number } | undefined;
}

/** How a registration was proved. `accepted`: by the status alone, at a service that offers nothing more. */
export type RegistrationProof = "confirmed" | "read-back" | "attested" | "accepted";

/** A key that the service holds, and that may now be used to encrypt. */
export interface RegisteredKey {
  /** Names the version that was proved, e.g. `kbs:///default/image-key/app`. */
  readonly uri: string;
  /** 32 bytes. */
  readonly key: Buffer;
  readonly outcome: "created" | "present";
  readonly proof: RegistrationProof;
}

export interface ResourceList {
  /** `repository/type/tag`. */
  readonly resources: readonly string[];
  /** Pass as `after` for the next page. */
  readonly next: string | undefined;
}

/**
 * An administrator's side: of our service and of Trustee (0.15 to 0.21).
 *
 * All calls throw `ERR_KBS_ADMIN_DENIED`, `ERR_KBS_NOT_FOUND`, `ERR_KBS_REQUEST_REFUSED`, `ERR_KBS_OVERLOADED`,
 * `ERR_KBS_UNREACHABLE`, `ERR_KBS_RESPONSE_MALFORMED`; those with a URI also `ERR_KBS_URI_MALFORMED`.
 */
export interface KbsAdmin {
  /** Stores a value; anything but 200 is a failure. `"present"`: the condition did not hold, nothing was written. */
  putResource(uri: string, value: Uint8Array, options?: PutOptions): Promise<"stored" | "present">;
  /** Reads a value back; needs the right to read, which Trustee grants nobody. */
  getResource(uri: string, options?: CallOptions): Promise<Buffer>;
  listResources(
    request?: {
      readonly prefix?: string | undefined;
      readonly after?: string | undefined;
      readonly limit?: number | undefined;
    } & CallOptions,
  ): Promise<ResourceList>;
  deleteResource(uri: string, options?: CallOptions): Promise<void>;
  /**
   * Proves that the service holds exactly this value at a URI. Throws `ERR_KBS_REGISTRATION_UNPROVED` when it does not
   * or cannot be shown to.
   */
  proveResource(uri: string, value: Uint8Array, options?: CallOptions): Promise<RegistrationProof>;
  /**
   * Makes a 32-byte key at a URI, or fetches the one that is there, and proves that the service holds it. Only then may
   * anything that needs it be pushed. Throws `ERR_KBS_CONFLICT` when one is there that the token may not read,
   * `ERR_KBS_REGISTRATION_UNPROVED`.
   */
  registerKey(uri: string, options?: CallOptions): Promise<RegisteredKey>;
  close(): Promise<void>;
}

const keySize = 32;

/** Connects an administrator; nothing is sent yet. Throws `ERR_KBS_CONFIG_INVALID`, `ERR_KBS_TRANSPORT_INSECURE`. */
export function connectKbsAdmin(options: KbsAdminOptions): KbsAdmin {
  return new AdminClient(options);
}

class AdminClient implements KbsAdmin {
  readonly #transport: KbsTransport;
  readonly #token: TokenSource;
  readonly #verifyWith: KbsClient | undefined;

  constructor(options: KbsAdminOptions) {
    this.#transport = new KbsTransport(options);
    const { token } = options;
    this.#token = typeof token === "string" ? () => Promise.resolve(token) : token;
    this.#verifyWith = options.verifyWith;
  }

  async putResource(uri: string, value: Uint8Array, options: PutOptions = {}): Promise<"stored" | "present"> {
    const { response } = await this.#put(uri, value, options);
    return response.status === 409 ? "present" : "stored";
  }

  async getResource(uri: string, options: CallOptions = {}): Promise<Buffer> {
    const path = formatResourcePath(parseResourceUri(uri));
    const response = await this.#send("GET", `/api/v1/resources/${path}`, options);
    return expectOk(response, `read ${path}`).body;
  }

  async listResources(request: Parameters<KbsAdmin["listResources"]>[0] = {}): Promise<ResourceList> {
    const query = new URLSearchParams({
      ...(request.prefix === undefined ? {} : { prefix: request.prefix }),
      ...(request.after === undefined ? {} : { after: request.after }),
      ...(request.limit === undefined ? {} : { limit: String(request.limit) }),
    });
    const response = expectOk(await this.#send("GET", `/api/v1/resources?${query.toString()}`, request), "list resources");
    const body = jsonOf(response, "the list of resources");
    const resources = memberAt(body, "resources");
    const next = memberAt(body, "next");
    if (!Array.isArray(resources) || !resources.every((path) => typeof path === "string")) {
      throw new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: "the list of resources has no member resources" });
    }
    return { resources, next: typeof next === "string" ? next : undefined };
  }

  async deleteResource(uri: string, options: CallOptions = {}): Promise<void> {
    const path = formatResourcePath(parseResourceUri(uri));
    expectOk(await this.#send("DELETE", `${protocolPrefix}/resource/${path}`, options), `delete ${path}`);
  }

  async proveResource(uri: string, value: Uint8Array, options: CallOptions = {}): Promise<RegistrationProof> {
    const name = formatResourceUri(parseResourceUri(uri));
    const confirmed = await this.#confirm(name, value, options);
    if (confirmed !== "unsupported") return confirmed;
    if (this.#verifyWith === undefined) return "accepted";
    const held = await this.#verifyWith.fetchResource(name, options);
    if (!equalBytes(held, value)) throw unproved(name, "it released another value than the one registered");
    return "attested";
  }

  async registerKey(uri: string, options: CallOptions = {}): Promise<RegisteredKey> {
    const name = formatResourceUri(parseResourceUri(uri));
    const fresh = randomBytes(keySize);
    const outcome = await this.putResource(name, fresh, { ...options, condition: "absent" });
    if (outcome === "stored") return { uri: name, key: fresh, outcome: "created", proof: await this.proveResource(name, fresh, options) };
    const key = await this.#readPresent(name, options);
    if (key.length !== keySize) {
      throw new KbsError("ERR_KBS_CONFLICT", {
        message: `${name} exists and has ${key.length} bytes (an image key has ${keySize})`,
        hint: "choose another name",
      });
    }
    return { uri: name, key, outcome: "present", proof: "read-back" };
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  async #readPresent(name: string, options: CallOptions): Promise<Buffer> {
    try {
      return await this.getResource(name, options);
    } catch (cause) {
      if (!(cause instanceof KbsError) || cause.code !== "ERR_KBS_ADMIN_DENIED") throw cause;
      throw new KbsError("ERR_KBS_CONFLICT", {
        message: `${name} exists already, and this token may not read it`,
        hint: "choose a new name for each image (kbs:///REPOSITORY/TYPE generates one), or use a token that may read",
        cause,
      });
    }
  }

  async #put(uri: string, value: Uint8Array, options: PutOptions) {
    const path = formatResourcePath(parseResourceUri(uri));
    const condition = options.condition ?? "any";
    const headers: Record<string, string> = { "content-type": "application/octet-stream" };
    if (condition === "absent") headers["if-none-match"] = "*";
    else if (condition !== "any") headers["if-match"] = `"${condition.version}"`;
    const response = await this.#send("POST", `${protocolPrefix}/resource/${path}`, options, { headers, body: value });
    if (response.status === 409 && condition !== "any") return { response };
    return { response: expectOk(response, `store ${path}`) };
  }

  async #confirm(name: string, value: Uint8Array, options: CallOptions): Promise<"confirmed" | "unsupported"> {
    const path = formatResourcePath(parseResourceUri(name));
    const challenge = randomBytes(challengeSize);
    const response = await this.#send("POST", `/api/v1/resources/${path}/confirm`, options, {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ challenge: encodeBase64Url(challenge) }),
    });
    // Trustee has no such path; ours answers every call with its mark.
    if (response.header("ociseal-kbs").length === 0 && response.status !== 200) return "unsupported";
    if (response.status !== 200) throw unproved(name, problemOf(response).detail || `status ${response.status}`);
    const answer = jsonOf(response, "the confirmation");
    const version = memberAt(answer, "version");
    const confirmation = memberAt(answer, "confirmation");
    if (!isObject(answer) || typeof version !== "number" || typeof confirmation !== "string") {
      throw new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: "the confirmation has no version or value" });
    }
    const expected = confirmationOf(value, { path, version, challenge });
    if (!equalBytes(decodeBase64Url(confirmation, "confirmation"), decodeBase64Url(expected)))
      throw unproved(name, "its confirmation is not of the value that was registered");
    return "confirmed";
  }

  async #send(
    method: "GET" | "POST" | "PUT" | "DELETE",
    path: string,
    options: CallOptions,
    more: { readonly headers?: Readonly<Record<string, string>>; readonly body?: Uint8Array | string } = {},
  ): Promise<WireResponse> {
    const token = await this.#token(options);
    return this.#transport.send({
      method,
      path,
      headers: { authorization: `Bearer ${token}`, ...more.headers },
      ...(more.body === undefined ? {} : { body: more.body }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }
}

/** Success is exactly 200: tools that looked at less have pushed images whose keys nobody held. */
function expectOk(response: WireResponse, what: string): WireResponse {
  if (response.status === 200) return response;
  const problem = problemOf(response);
  const message = `the Key Broker Service did not ${what}: ${problem.detail || `status ${problem.status}`}`;
  const details = { status: problem.status, type: problem.type, requestId: problem.requestId };
  switch (problem.status) {
    case 401:
    case 403:
      throw new KbsError("ERR_KBS_ADMIN_DENIED", {
        message,
        details,
        hint: "check the administration token (--admin-token-file): its expiry, its role, and the paths it covers",
      });
    case 404:
      throw new KbsError("ERR_KBS_NOT_FOUND", { message, details });
    case 409:
      throw new KbsError("ERR_KBS_CONFLICT", { message, details });
    case 429:
    case 502:
    case 503:
    case 504:
      throw new KbsError("ERR_KBS_OVERLOADED", { message, details, hint: "try again later" });
    default:
      throw new KbsError("ERR_KBS_REQUEST_REFUSED", { message, details });
  }
}

function unproved(name: string, why: string): KbsError {
  return new KbsError("ERR_KBS_REGISTRATION_UNPROVED", {
    message: `the Key Broker Service did not prove that it holds ${name}: ${why}`,
    hint: "nothing was pushed; check the service before using this name again",
  });
}
