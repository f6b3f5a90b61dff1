import { hash } from "node:crypto";
import { parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { protocolVersions, type ProtocolVersion } from "./runtime-data.ts";
import { isObject } from "./shape.ts";
import { teeNamed, type TeeName } from "./tee-names.ts";
import { parseTeePublicKey, type TeePublicKey } from "./tee-key.ts";

/** Where every RCAR path begins; the version in it never changed. */
export const protocolPrefix = "/kbs/v0";
export const sessionCookieName = "kbs-session-id";

const maxDepth = 32;

export interface AuthRequest {
  readonly version: ProtocolVersion;
  readonly tee: TeeName;
}

export interface Challenge {
  /** Base64 (standard alphabet) of 32 random bytes. */
  readonly nonce: string;
  /** `selected-hash-algorithm`, where the service chose one. */
  readonly hashAlgorithm: string | undefined;
}

export interface InitData {
  readonly format: "toml";
  /** The whole document, byte for byte as it was hashed. */
  readonly body: string;
}

/** Step 2 of the handshake, whichever version it came in. */
export interface AttestationRequest {
  /** Absent in 0.2.0, where the session alone ties the evidence to its nonce. */
  readonly nonce: string | undefined;
  readonly teePublicKey: TeePublicKey;
  readonly primaryEvidence: unknown;
  /** Exactly as received, for it is hashed as text. */
  readonly additionalEvidence: string;
  readonly initData: InitData | undefined;
}

/** The version that a request names is not one of ours; the text is the one that real guests look for. */
export function versionMismatchText(requested: string): string {
  return `Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect =${protocolVersions[0]} while the request is ${requested}`;
}

/** The version that a peer's mismatch text asks for. */
export function versionAskedFor(detail: string): string | undefined {
  return /Protocol Version Mismatch: expect [=<>^~ ]*([0-9]+\.[0-9]+\.[0-9]+)/.exec(detail)?.[1];
}

/** Parses the body of `POST /auth`. Throws `ERR_KBS_VERSION_UNSUPPORTED`, `ERR_KBS_REQUEST_REFUSED`, `ERR_JSON_MALFORMED`. */
export function parseAuthRequest(body: Uint8Array, limits: { readonly maxBytes: number }): AuthRequest {
  const value = parseJson(body, { maxBytes: limits.maxBytes, maxDepth, subject: "the body" });
  if (!isObject(value)) throw refused("the body is not a JSON object");
  const { version, tee } = value;
  if (typeof version !== "string") throw refused("the body has no text member version");
  if (!isProtocolVersion(version))
    throw new KbsError("ERR_KBS_VERSION_UNSUPPORTED", { message: versionMismatchText(version.slice(0, 40)) });
  if (!Object.hasOwn(value, "extra-params")) throw refused("the body has no member extra-params");
  const name = typeof tee === "string" ? teeNamed(tee, version) : undefined;
  if (name === undefined) throw refused(`the body names an unknown tee: ${JSON.stringify(tee)?.slice(0, 40)}`);
  return { version, tee: name };
}

/** Parses the body of `POST /attest` in the shape of the session's version. Throws `ERR_KBS_REQUEST_REFUSED`, `ERR_KBS_EVIDENCE_INVALID`, `ERR_JSON_MALFORMED`. */
export function parseAttestationRequest(
  body: Uint8Array,
  version: ProtocolVersion,
  limits: { readonly maxBytes: number },
): AttestationRequest {
  const value = parseJson(body, { maxBytes: limits.maxBytes, maxDepth, subject: "the body" });
  if (!isObject(value)) throw refused("the body is not a JSON object");
  switch (version) {
    case "0.4.0":
      return parseComposite(value);
    case "0.2.0":
      if (value["tee-evidence"] === undefined) throw refused("the body has no member tee-evidence");
      return {
        nonce: undefined,
        teePublicKey: parseTeePublicKey(value["tee-pubkey"]),
        primaryEvidence: value["tee-evidence"],
        additionalEvidence: "",
        initData: undefined,
      };
  }
}

function parseComposite(value: Readonly<Record<string, unknown>>): AttestationRequest {
  const runtimeData = value["runtime-data"];
  if (!isObject(runtimeData) || typeof runtimeData["nonce"] !== "string") throw refused("the body has no runtime-data with a nonce");
  const evidence = value["tee-evidence"];
  if (!isObject(evidence) || evidence["primary_evidence"] === undefined || evidence["primary_evidence"] === null) {
    throw refused("the body has no tee-evidence with a primary_evidence");
  }
  const additional = evidence["additional_evidence"] ?? "";
  if (typeof additional !== "string") throw refused("additional_evidence is not a text");
  return {
    nonce: runtimeData["nonce"],
    teePublicKey: parseTeePublicKey(runtimeData["tee-pubkey"]),
    primaryEvidence: evidence["primary_evidence"],
    additionalEvidence: additional,
    initData: parseInitData(value["init-data"]),
  };
}

function parseInitData(value: unknown): InitData | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value) || typeof value["body"] !== "string") throw refused("init-data has no body");
  if (value["format"] !== "toml") throw refused("init-data has a format other than toml");
  return { format: "toml", body: value["body"] };
}

/** The evidence of further devices: a JSON text of a map from TEE name to evidence. Throws `ERR_KBS_REQUEST_REFUSED`. */
export function parseAdditionalEvidence(
  text: string,
  limits: { readonly maxBytes: number },
): readonly { readonly tee: TeeName; readonly evidence: unknown }[] {
  if (text === "") return [];
  const value = parseJson(text, { maxBytes: limits.maxBytes, maxDepth, subject: "additional_evidence" });
  if (!isObject(value)) throw refused("additional_evidence is not a JSON object");
  return Object.entries(value).map(([name, evidence]) => {
    const tee = teeNamed(name, "0.4.0");
    if (tee === undefined) throw refused(`additional_evidence names an unknown tee: ${JSON.stringify(name.slice(0, 40))}`);
    return { tee, evidence };
  });
}

/** Parses the answer to `POST /auth`. Throws `ERR_KBS_RESPONSE_MALFORMED`. */
export function parseChallenge(value: unknown): Challenge {
  if (!isObject(value) || typeof value["nonce"] !== "string" || value["nonce"].length === 0) {
    throw new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: "the challenge has no nonce" });
  }
  const extra = value["extra-params"];
  const selected = isObject(extra) ? extra["selected-hash-algorithm"] : undefined;
  return { nonce: value["nonce"], hashAlgorithm: typeof selected === "string" ? selected.toLowerCase() : undefined };
}

/** The body of `POST /attest`. */
export function attestationBody(request: AttestationRequest, version: ProtocolVersion): unknown {
  switch (version) {
    case "0.4.0":
      return {
        "init-data": request.initData ?? null,
        "runtime-data": { nonce: request.nonce, "tee-pubkey": request.teePublicKey },
        "tee-evidence": { primary_evidence: request.primaryEvidence, additional_evidence: request.additionalEvidence },
      };
    case "0.2.0":
      return { "tee-pubkey": request.teePublicKey, "tee-evidence": request.primaryEvidence };
  }
}

/** Whether a text is a version that we speak. */
export function isProtocolVersion(text: string): text is ProtocolVersion {
  return (protocolVersions as readonly string[]).includes(text);
}

/** SHA-256 of the evidence as it was judged, for audit records. */
export function digestOfEvidence(body: Uint8Array): string {
  return `sha256:${hash("sha256", body, "hex")}`;
}

function refused(message: string): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", { message });
}
