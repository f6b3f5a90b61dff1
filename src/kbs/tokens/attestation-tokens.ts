import { randomUUID } from "node:crypto";
import { KbsError } from "../errors.ts";
import { describeCause } from "../../errors/index.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import { readTeePublicKey, type TeePublicKey } from "../protocol/tee-key.ts";
import { trustClaims, type TrustVector } from "../../policy/index.ts";
import { statusOf } from "../protocol/trust-vector.ts";
import { requireOwnChallenge } from "./foreign-claims.ts";
import { IssuedTokens } from "./issued-tokens.ts";
import { openCompact, signCompact } from "./jws.ts";
import type { SigningKeyEntry, SigningKeys } from "./signing-keys.ts";

/** One device of an attested guest. */
export interface AttestedDevice {
  /** `cpu0`, `gpu0`. */
  readonly name: string;
  readonly vector: TrustVector;
  readonly policyId: string;
  /** The claims, with report data, runtime data and init-data beside them. */
  readonly evidence: Readonly<Record<string, unknown>>;
  /** Why the vector is not affirming. */
  readonly reasons: readonly string[];
  readonly extensions?: Readonly<Record<string, unknown>> | undefined;
}

export interface AttestationTokenOptions {
  readonly issuer: string;
  readonly lifetimeSeconds: number;
  readonly mode: "production" | "development";
  /** Verifies tokens of another attestation service, and gives their claims; throws for others. */
  readonly foreign?: { verifyForeign(token: string, now: Date): Promise<Readonly<Record<string, unknown>>> } | undefined;
  /** Whether this service gave a nonce: a foreign token must be for a challenge of ours. */
  readonly isOwnNonce: (nonce: string) => boolean;
}

/** A verified token. */
export interface AttestationClaims {
  readonly claims: Readonly<Record<string, unknown>>;
  readonly teePublicKey: TeePublicKey;
  readonly tokenId: string | undefined;
  readonly expiresAt: Date;
}

const profile = "tag:github.com,2024:confidential-containers/Trustee";
const verifierId = { developer: "https://github.com/ociseal", build: "ociseal-kbs" };
const clockLeewaySeconds = 60;

/** Where a guest's key may stand in a token, first match wins. Source: Trustee, kbs/src/attestation, token key paths. */
const teeKeyPaths = [
  ["tdx", "attester_runtime_data", "tee-pubkey"],
  ["tdx", "attester_user_data", "tee-pubkey"],
  ["customized_claims", "runtime_data", "tee-pubkey"],
  ["submods", "cpu0", "ear.veraison.annotated-evidence", "runtime_data_claims", "tee-pubkey"],
  ["tee-pubkey"],
] as const;

/** Issues and verifies EAR tokens (ES256). Source: EAR, draft-fv-rats-ear; Trustee's profile of it. */
export class AttestationTokens {
  readonly #keys: SigningKeys;
  readonly #options: AttestationTokenOptions;
  readonly #headers = new WeakMap<SigningKeyEntry, Readonly<Record<string, unknown>>>();
  readonly #issued = new IssuedTokens();

  constructor(keys: SigningKeys, options: AttestationTokenOptions) {
    this.#keys = keys;
    this.#options = options;
  }

  /** The token for an attested guest, and its id. */
  issue(devices: readonly AttestedDevice[], now: Date): { readonly token: string; readonly tokenId: string } {
    const { key } = this.#keys.active;
    const iat = Math.floor(now.getTime() / 1000);
    const exp = iat + this.#options.lifetimeSeconds;
    const tokenId = randomUUID();
    const token = signCompact(
      this.#headerOf(this.#keys.active),
      {
        eat_profile: profile,
        iat,
        exp,
        iss: this.#options.issuer,
        jti: tokenId,
        "ear.verifier-id": verifierId,
        ...(this.#options.mode === "development" ? { "ociseal.mode": "development" } : {}),
        submods: Object.fromEntries(devices.map((device) => [device.name, submodOf(device)])),
      },
      key,
    );
    this.#issued.remember(token, exp, iat);
    return { token, tokenId };
  }

  /** Verifies a token of this service, or of the attestation service that it trusts. Throws `ERR_KBS_ATTESTATION_REFUSED`. */
  async verify(token: string, now: Date): Promise<AttestationClaims> {
    try {
      const payload = await this.#payloadOf(token, now);
      const { exp, jti } = payload;
      return {
        claims: payload,
        teePublicKey: teeKeyIn(payload),
        tokenId: typeof jti === "string" ? jti : undefined,
        expiresAt: new Date((typeof exp === "number" ? exp : 0) * 1000),
      };
    } catch (cause) {
      if (cause instanceof KbsError && (cause.code === "ERR_KBS_ATTESTATION_REFUSED" || cause.category === "unavailable")) throw cause;
      throw new KbsError("ERR_KBS_ATTESTATION_REFUSED", { message: `the attestation token is not valid: ${describeCause(cause)}`, cause });
    }
  }

  /** The same object for the same key: certificates make it long, and it is encoded once. */
  #headerOf(entry: SigningKeyEntry): Readonly<Record<string, unknown>> {
    const { key, x5c } = entry;
    const header = this.#headers.get(entry) ?? { typ: "JWT", kid: key.kid, jwk: { ...key.jwk, ...(x5c.length === 0 ? {} : { x5c }) } };
    this.#headers.set(entry, header);
    return header;
  }

  async #payloadOf(token: string, now: Date): Promise<Readonly<Record<string, unknown>>> {
    const jws = openCompact(token);
    const { kid } = jws ?? {};
    // The key in the header is for others; we use our own by its id.
    const key = kid === undefined ? undefined : await this.#keys.find(kid);
    const { foreign, mode, isOwnNonce } = this.#options;
    if (key === undefined && foreign !== undefined) {
      const claims = await foreign.verifyForeign(token, now);
      requireOwnChallenge(claims, { mode, isNonce: isOwnNonce });
      return claims;
    }
    if (jws === undefined || key === undefined) throw refused("it is not signed by a key that this service holds");
    const payload = this.#issued.has(token) ? jws.payloadSignedHere() : jws.verify(key);
    if (payload === undefined) throw refused("its signature is wrong");
    // Development appraises nothing; what it issued under a key that both modes share must not open production.
    if (mode === "production" && payload["ociseal.mode"] !== undefined) throw refused("it was issued in development mode");
    const { exp, iat, iss } = payload;
    const seconds = now.getTime() / 1000;
    if (iss !== this.#options.issuer) throw refused("it is of another issuer");
    if (typeof exp !== "number" || seconds >= exp + clockLeewaySeconds) throw refused("it has expired");
    if (typeof iat !== "number" || iat > seconds + clockLeewaySeconds) throw refused("it is of the future");
    return payload;
  }
}

/** The guest's key in a verified token's claims; deriving from it refuses a point off its curve. Throws `ERR_KBS_ATTESTATION_REFUSED`, `ERR_KBS_EVIDENCE_INVALID`. */
export function teeKeyIn(claims: Readonly<Record<string, unknown>>): TeePublicKey {
  for (const path of teeKeyPaths) {
    const found = memberAt(claims, ...path);
    if (isObject(found)) return readTeePublicKey(found);
  }
  throw new KbsError("ERR_KBS_ATTESTATION_REFUSED", { message: "the token carries no tee-pubkey" });
}

function submodOf(device: AttestedDevice): Readonly<Record<string, unknown>> {
  const vector = Object.fromEntries(trustClaims.map((claim) => [claim, device.vector[claim] ?? 0]));
  return {
    "ear.status": statusOf(device.vector),
    "ear.trustworthiness-vector": vector,
    "ear.appraisal-policy-id": device.policyId,
    "ear.veraison.annotated-evidence": device.evidence,
    ...(device.reasons.length === 0 ? {} : { "ociseal.reasons": device.reasons }),
    ...device.extensions,
  };
}

function refused(why: string): KbsError {
  return new KbsError("ERR_KBS_ATTESTATION_REFUSED", { message: `the attestation token is not valid: ${why}` });
}
