import { randomBytes } from "node:crypto";
import { decodeBase64Url, encodeBase64Url, equalBytes } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { challengeSize, confirmationOf } from "../protocol/confirmation.ts";
import { protocolPrefix } from "../protocol/messages.ts";
import { formatResourcePath, formatResourceUri, parseResourceUri } from "../protocol/resource-path.ts";
import { memberAt } from "../protocol/shape.ts";
import { AdminCall, expectOk, isOurs, malformedAnswer, type TokenSource } from "./admin-call.ts";
import { adminKeys, pageQuery, type KbsAdminKeys, type PageRequest } from "./admin-keys.ts";
import {
  adminAppraisalPolicies,
  adminReferences,
  adminReleasePolicies,
  type KbsAdminPolicies,
  type KbsAdminReferences,
  type KbsAdminReleasePolicies,
} from "./admin-policies.ts";
import { adminAudit, adminSystem, type KbsAdminAudit, type KbsAdminSystem } from "./admin-system.ts";
import type { KbsClient } from "./kbs-client.ts";
import { jsonOf, problemOf, type CallOptions, type KbsTransportOptions } from "./transport.ts";

export interface KbsAdminOptions extends KbsTransportOptions {
  /** Left out when a client certificate says who asks. */
  readonly token?: string | TokenSource | undefined;
  /**
   * A guest that the service releases to, to prove a registration at a service that lets administrators read nothing
   * (Trustee): the value is fetched through it.
   */
  readonly verifyWith?: KbsClient | undefined;
}

export interface PutOptions extends CallOptions {
  /** `absent`: only when there is none; a version: only in its place; overwrite otherwise. Trustee knows no conditions. */
  readonly condition?: "any" | "absent" | { readonly version: number } | undefined;
}

/** How a registration was proved. `accepted`: by the status alone, at a service that offers nothing more. */
export type RegistrationProof = "confirmed" | "read-back" | "attested" | "accepted";

/** A key that the service holds, and that may now be used to encrypt. */
export interface RegisteredKey {
  /** What packets must name: `kbs:///default/image-key/app`, or `….vN` when the key was rotated. */
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
  /**
   * Stores a value; anything but 200 is a failure. `"present"`: the condition did not hold, nothing was written. Throws
   * `ERR_KBS_REQUEST_REFUSED` before anything is sent to a service that would write whatever the condition.
   */
  putResource(uri: string, value: Uint8Array, options?: PutOptions): Promise<"stored" | "present">;
  /** Reads the newest value back; needs the right to read, which Trustee grants nobody. */
  getResource(uri: string, options?: CallOptions): Promise<Buffer>;
  listResources(request?: PageRequest): Promise<ResourceList>;
  deleteResource(uri: string, options?: CallOptions): Promise<void>;
  /**
   * Proves that the service holds exactly this value at a URI. Throws `ERR_KBS_REGISTRATION_UNPROVED` when it does not
   * or cannot be shown to.
   */
  proveResource(uri: string, value: Uint8Array, options?: CallOptions): Promise<RegistrationProof>;
  /**
   * Makes a 32-byte key at a URI, or fetches the one that is there, and proves that the service holds it. Only then may
   * anything that needs it be pushed. Trustee makes a new one whatever is there: give it names that nobody used. Throws
   * `ERR_KBS_CONFLICT` when one is there that the token may not read, `ERR_KBS_REGISTRATION_UNPROVED`.
   */
  registerKey(uri: string, options?: CallOptions): Promise<RegisteredKey>;
  readonly keys: KbsAdminKeys;
  readonly policies: KbsAdminReleasePolicies;
  readonly attestationPolicies: KbsAdminPolicies;
  readonly references: KbsAdminReferences;
  readonly audit: KbsAdminAudit;
  readonly system: KbsAdminSystem;
  close(): Promise<void>;
}

const keySize = 32;

/** Connects an administrator; nothing is sent yet. Throws `ERR_KBS_CONFIG_INVALID`, `ERR_KBS_TRANSPORT_INSECURE`. */
export function connectKbsAdmin(options: KbsAdminOptions): KbsAdmin {
  return new AdminClient(options);
}

class AdminClient implements KbsAdmin {
  readonly keys: KbsAdminKeys;
  readonly policies: KbsAdminReleasePolicies;
  readonly attestationPolicies: KbsAdminPolicies;
  readonly references: KbsAdminReferences;
  readonly audit: KbsAdminAudit;
  readonly system: KbsAdminSystem;
  readonly #call: AdminCall;
  readonly #verifyWith: KbsClient | undefined;
  #keepsConditions = false;

  constructor(options: KbsAdminOptions) {
    this.#call = new AdminCall(options, options.token);
    this.#verifyWith = options.verifyWith;
    this.keys = adminKeys(this.#call);
    this.policies = adminReleasePolicies(this.#call);
    this.attestationPolicies = adminAppraisalPolicies(this.#call);
    this.references = adminReferences(this.#call);
    this.audit = adminAudit(this.#call);
    this.system = adminSystem(this.#call);
  }

  async putResource(uri: string, value: Uint8Array, options: PutOptions = {}): Promise<"stored" | "present"> {
    const { condition = "any", signal } = options;
    if (condition !== "any") await this.#requireConditions(formatResourceUri(parseResourceUri(uri)), { signal });
    return this.#put(uri, value, options);
  }

  async #put(uri: string, value: Uint8Array, { condition = "any", signal }: PutOptions): Promise<"stored" | "present"> {
    const path = formatResourcePath(parseResourceUri(uri));
    const headers: Record<string, string> = { "content-type": "application/octet-stream" };
    if (condition === "absent") headers["if-none-match"] = "*";
    else if (condition !== "any") headers["if-match"] = `"${condition.version}"`;
    const response = await this.#call.send({ method: "POST", path: `${protocolPrefix}/resource/${path}`, headers, body: value, signal });
    if (response.status === 409 && condition !== "any") return "present";
    expectOk(response, `store ${path}`);
    return "stored";
  }

  async getResource(uri: string, options: CallOptions = {}): Promise<Buffer> {
    return (await this.#read(uri, options)).value;
  }

  async listResources({ prefix, after, limit, ...options }: PageRequest = {}): Promise<ResourceList> {
    const path = `/api/v1/resources?${pageQuery({ prefix, after, limit })}`;
    const response = await this.#call.send({ method: "GET", path, ...options });
    const answer =
      response.status === 200 || isOurs(response) ? jsonOf(expectOk(response, "list resources"), "the list of resources") : undefined;
    const resources = answer === undefined ? await this.#listAtTrustee(options) : memberAt(answer, "resources");
    const next = memberAt(answer, "next");
    if (!Array.isArray(resources) || !resources.every((name) => typeof name === "string")) throw malformedAnswer("resources");
    return { resources, next: typeof next === "string" ? next : undefined };
  }

  async deleteResource(uri: string, options: CallOptions = {}): Promise<void> {
    const path = formatResourcePath(parseResourceUri(uri));
    const response = await this.#call.send({ method: "DELETE", path: `${protocolPrefix}/resource/${path}`, ...options });
    // Trustee's only word for it, as when its storage fails.
    if (!isOurs(response) && response.status === 401 && problemOf(response).type === "PluginInternalError") {
      throw new KbsError("ERR_KBS_NOT_FOUND", {
        message: `the Key Broker Service did not delete ${path}: it does not hold it, or its storage failed`,
        hint: "check the name; Trustee's log says more",
      });
    }
    expectOk(response, `delete ${path}`);
  }

  async proveResource(uri: string, value: Uint8Array, options: CallOptions = {}): Promise<RegistrationProof> {
    const name = formatResourceUri(parseResourceUri(uri));
    if ((await this.#confirm(name, value, options)) === "confirmed") return "confirmed";
    if (this.#verifyWith === undefined) return "accepted";
    const held = await this.#verifyWith.fetchResource(name, options);
    if (!equalBytes(held, value)) throw unproved(name, "it released another value than the one registered");
    return "attested";
  }

  async registerKey(uri: string, options: CallOptions = {}): Promise<RegisteredKey> {
    const name = formatResourceUri(parseResourceUri(uri));
    const fresh = randomBytes(keySize);
    if ((await this.#put(name, fresh, { ...options, condition: "absent" })) === "stored") {
      return { uri: name, key: fresh, outcome: "created", proof: await this.proveResource(name, fresh, options) };
    }
    const present = await this.#readPresent(name, options);
    if (present.value.length !== keySize) {
      throw new KbsError("ERR_KBS_CONFLICT", {
        message: `${name} exists and has ${present.value.length} bytes (an image key has ${keySize})`,
        hint: "choose another name",
      });
    }
    // The plain name goes on releasing the version that images in the field were wrapped under.
    const versioned = present.version === present.released ? name : `${name}.v${present.version}`;
    return { uri: versioned, key: present.value, outcome: "present", proof: "read-back" };
  }

  close(): Promise<void> {
    return this.#call.close();
  }

  /** Trustee ignores conditions and writes over what is there: it must not get that far. */
  async #requireConditions(name: string, options: CallOptions): Promise<void> {
    if (this.#keepsConditions) return;
    this.#keepsConditions = isOurs(await this.#call.send({ method: "GET", path: "/healthz", ...options }));
    if (this.#keepsConditions) return;
    throw new KbsError("ERR_KBS_REQUEST_REFUSED", {
      message: `this service is not ociseal kbs: it would write over what may be at ${name}, so nothing was sent`,
      hint: "to store it whatever is there, leave the condition (--if-absent) away",
    });
  }

  async #read(uri: string, options: CallOptions) {
    const path = formatResourcePath(parseResourceUri(uri));
    const response = await this.#call.ok({ method: "GET", path: `/api/v1/resources/${path}`, ...options }, `read ${path}`);
    const version = Number(/^"(\d+)"$/.exec(response.header("etag")[0] ?? "")?.[1]);
    const released = Number(response.header("ociseal-released-version")[0]);
    if (!Number.isInteger(version) || !Number.isInteger(released)) throw malformedAnswer("version");
    return { value: response.body, version, released };
  }

  async #readPresent(name: string, options: CallOptions) {
    try {
      return await this.#read(name, options);
    } catch (cause) {
      if (!(cause instanceof KbsError) || cause.code !== "ERR_KBS_ADMIN_DENIED") throw cause;
      throw new KbsError("ERR_KBS_CONFLICT", {
        message: `${name} exists already, and this token may not read it`,
        hint: "choose a new name for each image (kbs:///REPOSITORY/TYPE generates one), or use a token that may read",
        cause,
      });
    }
  }

  /** Source: Trustee PR 1592. */
  async #listAtTrustee(options: CallOptions): Promise<unknown> {
    return this.#call.json({ method: "GET", path: `${protocolPrefix}/resource`, ...options }, "list resources");
  }

  async #confirm(name: string, value: Uint8Array, options: CallOptions): Promise<"confirmed" | "unsupported"> {
    const path = formatResourcePath(parseResourceUri(name));
    const challenge = randomBytes(challengeSize);
    const json = { challenge: encodeBase64Url(challenge) };
    const response = await this.#call.send({ method: "POST", path: `/api/v1/resources/${path}/confirm`, json, ...options });
    if (!isOurs(response) && response.status !== 200) return "unsupported";
    if (response.status !== 200) throw unproved(name, problemOf(response).detail || `status ${response.status}`);
    const answer = jsonOf(response, "the confirmation");
    const version = memberAt(answer, "version");
    const confirmation = memberAt(answer, "confirmation");
    if (typeof version !== "number" || typeof confirmation !== "string") throw malformedAnswer("confirmation");
    const expected = confirmationOf(value, { path, version, challenge });
    if (!equalBytes(decodeBase64Url(confirmation, "confirmation"), decodeBase64Url(expected))) {
      throw unproved(name, "its confirmation is not of the value that was registered");
    }
    return "confirmed";
  }
}

function unproved(name: string, why: string): KbsError {
  return new KbsError("ERR_KBS_REGISTRATION_UNPROVED", {
    message: `the Key Broker Service did not prove that it holds ${name}: ${why}`,
    hint: "nothing was pushed; check the service before using this name again",
  });
}
