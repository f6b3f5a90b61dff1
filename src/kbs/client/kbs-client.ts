import type { Attester } from "../../attestation/index.ts";
import { KbsError } from "../errors.ts";
import { protocolPrefix, sessionCookieName, type InitData } from "../protocol/messages.ts";
import { formatResourcePath, parseResourceUri } from "../protocol/resource-path.ts";
import { openResponse, parseResponseJwe } from "../protocol/response-jwe.ts";
import { attest, refusedBy, type AttestedSession } from "./handshake.ts";
import { generateTeeKeyPair, type TeeKeyAlgorithm } from "./tee-key-pair.ts";
import {
  jsonOf,
  KbsTransport,
  problemOf,
  type CallOptions,
  type KbsTransportOptions,
  type Problem,
  type WireResponse,
} from "./transport.ts";

export interface KbsClientOptions extends KbsTransportOptions {
  readonly attester: Attester;
  readonly initData?: InitData | undefined;
  /** `P-256` unless told, as real guests do. */
  readonly teeKey?: TeeKeyAlgorithm | undefined;
}

/** A guest's side of the protocol. Whoever connected it closes it. */
export interface KbsClient {
  /**
   * The value of a resource, e.g. `kbs:///default/image-key/app`. The first call attests; later ones reuse the token
   * until it expires.
   *
   * Throws `ERR_KBS_URI_MALFORMED`, `ERR_KBS_ATTESTATION_REFUSED`, `ERR_KBS_RELEASE_DENIED`, `ERR_KBS_NOT_FOUND`,
   * `ERR_KBS_RESPONSE_MALFORMED`, `ERR_KBS_RESPONSE_UNSEALED`, `ERR_KBS_OVERLOADED`, `ERR_KBS_UNREACHABLE`,
   * `ERR_KBS_VERSION_UNSUPPORTED`, `ERR_KBS_REQUEST_REFUSED`.
   */
  fetchResource(uri: string, options?: CallOptions): Promise<Buffer>;
  /** Attests now, unless there is a valid token, and answers the attestation token (a JWT). */
  attestationToken(options?: CallOptions): Promise<string>;
  close(): Promise<void>;
}

const renewBeforeExpiryMs = 30_000;
/** 401 of a Trustee server that a new attestation may cure; its other 401s mean "no" or "not there". */
const curedByAttestation = new Set(["TokenNotFound", "TokenVerifierError", "AttestationError"]);

/** Connects a guest; nothing is sent yet. Throws `ERR_KBS_CONFIG_INVALID`, `ERR_KBS_TRANSPORT_INSECURE`. */
export function connectKbs(options: KbsClientOptions): KbsClient {
  return new Client(options);
}

class Client implements KbsClient {
  readonly #options: KbsClientOptions;
  readonly #transport: KbsTransport;
  readonly #key: ReturnType<typeof generateTeeKeyPair>;
  #session: Promise<AttestedSession> | undefined;

  constructor(options: KbsClientOptions) {
    this.#options = options;
    this.#transport = new KbsTransport(options);
    this.#key = generateTeeKeyPair(options.teeKey ?? "P-256");
  }

  async fetchResource(uri: string, options: CallOptions = {}): Promise<Buffer> {
    const path = formatResourcePath(parseResourceUri(uri));
    const session = await this.#attested(options);
    let response = await this.#get(path, session, options);
    if (response.status === 401 && curedByAttestation.has(problemOf(response).type)) {
      // The service restarted, or its clock and ours differ: attest once more, never in a loop.
      this.#session = undefined;
      response = await this.#get(path, await this.#attested(options), options);
    }
    if (response.status !== 200) throw releaseError(path, response);
    return openResponse(parseResponseJwe(jsonOf(response, "the encrypted answer")), this.#key);
  }

  async attestationToken(options: CallOptions = {}): Promise<string> {
    return (await this.#attested(options)).token;
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  /** One handshake for all who ask meanwhile; a failed one is not kept. */
  async #attested(options: CallOptions): Promise<AttestedSession> {
    if (this.#session !== undefined) {
      const session = await this.#session;
      if (session.expiresAt.getTime() - renewBeforeExpiryMs > Date.now()) return session;
    }
    const handshake = attest(
      { transport: this.#transport, attester: this.#options.attester, key: this.#key, initData: this.#options.initData },
      options,
    );
    this.#session = handshake;
    try {
      return await handshake;
    } catch (cause) {
      if (this.#session === handshake) this.#session = undefined;
      throw cause;
    }
  }

  #get(path: string, session: AttestedSession, options: CallOptions): Promise<WireResponse> {
    return this.#transport.send({
      method: "GET",
      path: `${protocolPrefix}/resource/${path}`,
      headers: {
        authorization: `Bearer ${session.token}`,
        ...(session.cookie === undefined ? {} : { cookie: `${sessionCookieName}=${session.cookie}` }),
      },
      ...options,
    });
  }
}

function releaseError(path: string, response: WireResponse): KbsError {
  const problem = problemOf(response);
  const details = { status: problem.status, type: problem.type, reasons: problem.reasons, requestId: problem.requestId };
  const why = problem.reasons.length === 0 ? problem.detail : `${problem.detail}: ${problem.reasons.join("; ")}`;
  if (isDenial(problem)) {
    return new KbsError("ERR_KBS_RELEASE_DENIED", {
      message: `the Key Broker Service does not release ${path}: ${why}`,
      hint: "compare the reasons with the policy: ociseal kbs policy evaluate",
      details,
    });
  }
  if (problem.status === 404 || problem.type === "PluginInternalError" || problem.type === "InvalidRequestPath") {
    return new KbsError("ERR_KBS_NOT_FOUND", {
      message: `the Key Broker Service does not hold ${path}: ${why}`,
      hint: "check the name; register the resource with: ociseal kbs resource put",
      details,
    });
  }
  return refusedBy(response, `did not release ${path}`);
}

function isDenial(problem: Problem): boolean {
  return problem.status === 403 || problem.type === "PolicyDeny";
}
