import type { Attester } from "../../attestation/index.ts";
import { decodeBase64Url, parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import {
  attestationBody,
  isProtocolVersion,
  parseChallenge,
  protocolPrefix,
  sessionCookieName,
  versionAskedFor,
  type InitData,
} from "../protocol/messages.ts";
import type { TeePrivateKey } from "../protocol/response-jwe.ts";
import { primaryReportData, protocolVersions, type ProtocolVersion } from "../protocol/runtime-data.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import { jsonOf, problemOf, type CallOptions, type KbsTransport, type WireResponse } from "./transport.ts";

/** What a guest shows when it asks for resources. */
export interface AttestedSession {
  readonly token: string;
  /** The session cookie, for services that know no bearer tokens. */
  readonly cookie: string | undefined;
  readonly expiresAt: Date;
  readonly version: ProtocolVersion;
}

export interface HandshakeRequest {
  readonly transport: KbsTransport;
  readonly attester: Attester;
  readonly key: TeePrivateKey;
  readonly initData: InitData | undefined;
}

/**
 * Attests once: request, challenge, attestation. Begins with 0.4.0 and follows a service that asks for 0.2.0.
 *
 * Throws `ERR_KBS_VERSION_UNSUPPORTED`, `ERR_KBS_ATTESTATION_REFUSED`, `ERR_KBS_RESPONSE_MALFORMED`,
 * `ERR_KBS_OVERLOADED`, `ERR_KBS_UNREACHABLE`, and what the attester throws.
 */
export async function attest(request: HandshakeRequest, options: CallOptions): Promise<AttestedSession> {
  let version: ProtocolVersion = protocolVersions[0];
  let response = await requestChallenge(request, version, options);
  if (response.status === 401) {
    const asked = versionAskedFor(problemOf(response).detail);
    if (asked !== undefined) {
      if (!isProtocolVersion(asked) || asked === version) throw unsupported(asked);
      version = asked;
      response = await requestChallenge(request, version, options);
    }
  }
  if (response.status !== 200) throw refusedBy(response, "did not begin a handshake");
  const challenge = parseChallenge(jsonOf(response, "the challenge"));
  if (challenge.hashAlgorithm !== undefined && challenge.hashAlgorithm !== "sha384") {
    throw new KbsError("ERR_KBS_VERSION_UNSUPPORTED", {
      message: `the service selected the hash ${challenge.hashAlgorithm.slice(0, 20)} (supported: sha384)`,
    });
  }
  const cookie = cookieIn(response);
  const { nonce } = challenge;
  const teePublicKey = request.key.public;
  const reportData = primaryReportData({ nonce, teePublicKey, additionalEvidence: "" }, version);
  const primaryEvidence = await request.attester.collect(reportData, options);
  const body = attestationBody({ nonce, teePublicKey, primaryEvidence, additionalEvidence: "", initData: request.initData }, version);
  const answer = await request.transport.send({
    method: "POST",
    path: `${protocolPrefix}/attest`,
    headers: { "content-type": "application/json", ...(cookie === undefined ? {} : { cookie: `${sessionCookieName}=${cookie}` }) },
    body: JSON.stringify(body),
    ...options,
  });
  if (answer.status !== 200) throw refusedBy(answer, "refused the evidence");
  const token = memberAt(jsonOf(answer, "the answer to the attestation"), "token");
  if (typeof token !== "string")
    throw new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: "the answer to the attestation has no token" });
  return { token, cookie: cookieIn(answer) ?? cookie, expiresAt: checkToken(token, request.key), version };
}

function requestChallenge(request: HandshakeRequest, version: ProtocolVersion, options: CallOptions): Promise<WireResponse> {
  return request.transport.send({
    method: "POST",
    path: `${protocolPrefix}/auth`,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ version, tee: request.attester.tee, "extra-params": { "supported-hash-algorithms": ["sha384"] } }),
    ...options,
  });
}

function cookieIn(response: WireResponse): string | undefined {
  for (const line of response.header("set-cookie")) {
    const match = /^kbs-session-id=([^;]*)/.exec(line);
    if (match?.[1] !== undefined) return match[1];
  }
  return undefined;
}

/**
 * A token must be a JWT in time, and for our key: a token for another key would make the service wrap our secrets to
 * somebody else. Its signature is the service's own business.
 */
function checkToken(token: string, key: TeePrivateKey): Date {
  const [header, payload, signature, ...rest] = token.split(".");
  if (header === undefined || payload === undefined || signature === undefined || rest.length > 0) throw badToken("is not a JWT");
  let claims: unknown;
  try {
    claims = parseJson(decodeBase64Url(payload), { maxBytes: 4 << 20, subject: "the token" });
  } catch (cause) {
    throw badToken("has a payload that is not JSON", cause);
  }
  const exp = memberAt(claims, "exp");
  if (typeof exp !== "number") throw badToken("has no exp");
  const bound = memberAt(claims, "submods", "cpu0", "ear.veraison.annotated-evidence", "runtime_data_claims", "tee-pubkey");
  if (isObject(bound) && Object.entries(key.public).some(([name, value]) => bound[name] !== value))
    throw badToken("is bound to another key than this guest's");
  return new Date(exp * 1000);
}

/** The error for an answer that ends a handshake. */
export function refusedBy(response: WireResponse, what: string): KbsError {
  const problem = problemOf(response);
  const message = `the Key Broker Service ${what}: ${problem.detail || `status ${problem.status}`}`;
  const details = { status: problem.status, type: problem.type, requestId: problem.requestId };
  if (problem.detail.includes("Protocol Version Mismatch")) return unsupported(versionAskedFor(problem.detail) ?? "another version");
  if (problem.status === 401) {
    return new KbsError("ERR_KBS_ATTESTATION_REFUSED", {
      message,
      details,
      hint: "the service's log names the reason under this request id",
    });
  }
  return [429, 502, 503, 504].includes(problem.status)
    ? new KbsError("ERR_KBS_OVERLOADED", { message, details, hint: "try again later" })
    : new KbsError("ERR_KBS_REQUEST_REFUSED", { message, details });
}

function unsupported(asked: string): KbsError {
  return new KbsError("ERR_KBS_VERSION_UNSUPPORTED", {
    message: `the Key Broker Service speaks protocol ${asked}; this guest speaks ${protocolVersions.join(" and ")}`,
    hint: "use a Trustee release of 0.12 or newer, or ociseal kbs",
  });
}

function badToken(what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: `the attestation token ${what}`, cause });
}
