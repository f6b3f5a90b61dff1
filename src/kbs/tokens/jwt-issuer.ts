import { createPublicKey, type KeyObject } from "node:crypto";
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
} from "jose";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import { matchesPath } from "../../policy/index.ts";
import type { Grant } from "./grants.ts";
import type { AdminIdentity, AdminTokenVerifier, TokenUse } from "./admin-tokens.ts";
import { fetchJson, type FetchJson } from "./fetch-json.ts";

/** Where the keys of an issuer come from. */
export type IssuerKeys =
  /** Public keys, PEM: Ed25519, P-256, P-384 or RSA. */
  | { readonly kind: "pem"; readonly pems: readonly string[] }
  | { readonly kind: "jwks"; readonly jwks: JSONWebKeySet }
  | { readonly kind: "jwks-url"; readonly url: string }
  /** OpenID Connect discovery at the issuer's URL. */
  | { readonly kind: "discovery" };

/** Gives roles to tokens whose claims fit; every named claim must. */
export interface ClaimRule {
  /** Claim name (dots descend) to a pattern: exact, with `*` for any text within one `/` segment, `**` for the rest. */
  readonly claims: Readonly<Record<string, string>>;
  readonly roles: readonly string[];
}

/** A right in Trustee's form: a role may use the endpoints that a regular expression matches. */
export interface EndpointRule {
  readonly role: string;
  /** Begins with `^/kbs` and ends with `$`; no alternative may stand outside parentheses. */
  readonly allowedEndpoints: string;
  /** All methods unless told; Trustee cannot tell them apart. */
  readonly methods?: readonly string[] | undefined;
}

export interface JwtIssuerOptions {
  /** What to call it in the audit. */
  readonly name: string;
  readonly keys: IssuerKeys;
  /** Must equal `iss`. Needed for discovery. */
  readonly issuer?: string | undefined;
  /** Must be in `aud`. Needed for everything that is fetched: those providers issue tokens for others too. */
  readonly audience?: string | undefined;
  /** Claim with one role or a list of them, dots descend: `role`, `realm_access.roles`, `groups`. `role` unless told. */
  readonly roleClaim?: string | undefined;
  /** Roles of tokens that name none (Trustee's clients up to 0.20 sign nothing but an expiry). */
  readonly defaultRoles?: readonly string[] | undefined;
  readonly rules?: readonly ClaimRule[] | undefined;
  readonly endpointRules?: readonly EndpointRule[] | undefined;
  /** Rights of the roles. */
  readonly roles: Readonly<Record<string, readonly Grant[]>>;
  /** Least time between two fetches for unknown keys; 5 s unless told. */
  readonly keysCooldownMs?: number | undefined;
  /** PEM authorities for fetching, added to the system's. */
  readonly authorities?: string | undefined;
}

/** The algorithms that are accepted, and the keys that each fits: the token's header chooses among ours, nothing more. */
const algorithmKeys: Readonly<Record<string, (key: KeyObject) => boolean>> = {
  EdDSA: (key) => key.asymmetricKeyType === "ed25519",
  Ed25519: (key) => key.asymmetricKeyType === "ed25519",
  ES256: (key) => isOnCurve(key, "prime256v1"),
  ES384: (key) => isOnCurve(key, "secp384r1"),
  RS256: isRsa,
  RS384: isRsa,
  RS512: isRsa,
  PS256: isRsa,
  PS384: isRsa,
  PS512: isRsa,
};
const algorithms = Object.keys(algorithmKeys);
const clockLeewaySeconds = 60;
const keySetMaxAgeMs = 10 * 60_000;
const keySetCooldownMs = 5_000;

/**
 * Accepts administration tokens of an issuer: a key pair of Trustee's clients, an OpenID provider, GitHub or GitLab.
 *
 * Keys that are fetched are fetched again when a token names an unknown one, at most every five seconds, so a provider
 * may rotate. A provider that is away is `ERR_KBS_STORE_UNAVAILABLE`, not a refusal. Throws `ERR_KBS_CONFIG_INVALID`.
 */
export function jwtIssuer(options: JwtIssuerOptions): AdminTokenVerifier {
  checkOptions(options);
  const endpoints = (options.endpointRules ?? []).map(compileEndpointRule);
  const keys = keysOf(options);
  return {
    verify: async (token, now, use) => {
      const claimed = unverifiedIssuer(token);
      if (options.issuer !== undefined && claimed !== options.issuer) return undefined;
      const payload = await verifyWith(await keys(), token, options, now);
      return payload === undefined ? undefined : identityOf(payload, options, endpoints, use);
    },
  };
}

type KeyLookup = JWTVerifyGetKey | readonly KeyObject[];

async function verifyWith(keys: KeyLookup, token: string, options: JwtIssuerOptions, now: Date): Promise<JWTPayload | undefined> {
  const checks = {
    algorithms,
    clockTolerance: clockLeewaySeconds,
    currentDate: now,
    requiredClaims: ["exp"],
    ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
    ...(options.audience === undefined ? {} : { audience: options.audience }),
  };
  if (typeof keys === "function") return (await jwtVerify(token, keys, checks)).payload;
  const { alg = "" } = decodeProtectedHeader(token);
  const fits = Object.hasOwn(algorithmKeys, alg) ? algorithmKeys[alg] : undefined;
  for (const key of fits === undefined ? [] : keys.filter(fits)) {
    try {
      return (await jwtVerify(token, key, checks)).payload;
    } catch (cause) {
      // Another key's token: the next key may fit.
      if (!(cause instanceof errors.JWSSignatureVerificationFailed)) throw cause;
    }
  }
  // Without an issuer to go by, a signature that fits no key means that the token is somebody else's.
  if (options.issuer === undefined) return undefined;
  throw new KbsError("ERR_KBS_ADMIN_DENIED", { message: `the token is not signed by a key of ${options.name}` });
}

function providerAway(options: JwtIssuerOptions, cause: unknown): KbsError {
  return new KbsError("ERR_KBS_STORE_UNAVAILABLE", {
    message: `the keys of the token issuer ${options.name} cannot be fetched: ${describeCause(cause)}`,
    cause,
  });
}

function keysOf(options: JwtIssuerOptions): () => Promise<KeyLookup> {
  const { keys } = options;
  switch (keys.kind) {
    case "pem": {
      const parsed = keys.pems.map(parsePublicKey);
      return () => Promise.resolve(parsed);
    }
    case "jwks": {
      const local = createLocalJWKSet(keys.jwks);
      return () => Promise.resolve(local);
    }
    case "jwks-url": {
      const remote = remoteKeys(keys.url, options, fetchJson(options.authorities));
      return () => Promise.resolve(remote);
    }
    case "discovery": {
      const fetcher = fetchJson(options.authorities);
      let discovered: Promise<JWTVerifyGetKey> | undefined;
      return async () => {
        discovered ??= discover(options, fetcher);
        try {
          return await discovered;
        } catch (cause) {
          discovered = undefined;
          throw cause;
        }
      };
    }
  }
}

/** Source: OpenID Connect Discovery 1.0 section 4. */
async function discover(options: JwtIssuerOptions, fetcher: FetchJson): Promise<JWTVerifyGetKey> {
  const issuer = options.issuer ?? "";
  let document: unknown;
  try {
    document = await fetcher.json(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  } catch (cause) {
    throw providerAway(options, cause);
  }
  const url = memberAt(document, "jwks_uri");
  // Section 4.3: the document must be about the issuer that was asked for.
  if (memberAt(document, "issuer") !== issuer || typeof url !== "string")
    throw providerAway(options, new Error("the discovery document names another issuer or no keys"));
  return remoteKeys(url, options, fetcher);
}

function remoteKeys(url: string, options: JwtIssuerOptions, fetcher: FetchJson): JWTVerifyGetKey {
  fetcher.check(url);
  return createRemoteJWKSet(new URL(url), {
    cacheMaxAge: keySetMaxAgeMs,
    cooldownDuration: options.keysCooldownMs ?? keySetCooldownMs,
    [customFetch]: async (target) => {
      try {
        return Response.json(await fetcher.json(target));
      } catch (cause) {
        throw providerAway(options, cause);
      }
    },
  });
}

type Endpoint = EndpointRule & { readonly pattern: RegExp };

function identityOf(payload: JWTPayload, options: JwtIssuerOptions, endpoints: readonly Endpoint[], use: TokenUse): AdminIdentity {
  const named = rolesIn(memberAt(payload, ...(options.roleClaim ?? "role").split(".")));
  const ruled = (options.rules ?? []).filter(({ claims }) => fits(claims, payload)).flatMap(({ roles }) => roles);
  const roles = [...new Set([...named, ...ruled, ...(named.length + ruled.length === 0 ? (options.defaultRoles ?? []) : [])])];
  const grants = roles.flatMap((role) => (Object.hasOwn(options.roles, role) ? (options.roles[role] ?? []) : []));
  const open = endpoints.some(
    ({ role, pattern, methods }) => roles.includes(role) && (methods?.includes(use.method) ?? true) && pattern.test(use.path),
  );
  return {
    subject: payload.sub ?? `key:${options.name}`,
    roles,
    grants: open ? [...grants, { actions: ["*"], paths: ["**"] }] : grants,
    tokenId: payload.jti,
    issuer: options.name,
  };
}

function rolesIn(value: unknown): readonly string[] {
  if (typeof value === "string") return [value];
  return Array.isArray(value) ? value.filter((role) => typeof role === "string") : [];
}

function fits(claims: Readonly<Record<string, string>>, payload: JWTPayload): boolean {
  return Object.entries(claims).every(([name, pattern]) => {
    const value = Object.hasOwn(payload, name) ? payload[name] : memberAt(payload, ...name.split("."));
    return (typeof value === "string" || typeof value === "boolean" || typeof value === "number") && matchesPath(pattern, String(value));
  });
}

/** Anchored at both ends, whatever stands in it: `^/kbs|.*$` would match everything. */
function compileEndpointRule(rule: EndpointRule): Endpoint {
  const { allowedEndpoints: source } = rule;
  if (!source.startsWith("^/kbs") || !source.endsWith("$"))
    throw invalid(`allowed_endpoints of role ${rule.role} must begin with ^/kbs and end with $`);
  let depth = 0;
  for (const [token] of source.matchAll(/\\.|\[(?:\\.|[^\]])*\]|./g)) {
    if (token === "(") depth += 1;
    else if (token === ")") depth -= 1;
    else if (token === "|" && depth === 0)
      throw invalid(`allowed_endpoints of role ${rule.role} has an alternative outside parentheses, which its anchors do not cover`);
  }
  try {
    return { ...rule, pattern: new RegExp(source, "u") };
  } catch (cause) {
    throw invalid(`allowed_endpoints of role ${rule.role} is not a regular expression`, cause);
  }
}

function isOnCurve(key: KeyObject, curve: string): boolean {
  return key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === curve;
}

function isRsa(key: KeyObject): boolean {
  return key.asymmetricKeyType === "rsa" && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048;
}

function unverifiedIssuer(token: string): string | undefined {
  try {
    const { iss } = decodeJwt(token);
    return typeof iss === "string" ? iss : undefined;
  } catch {
    // Not a JWT at all: nobody's.
    return undefined;
  }
}

function parsePublicKey(pem: string): KeyObject {
  try {
    return createPublicKey(pem);
  } catch (cause) {
    throw invalid("a public key of a token issuer is not PEM", cause);
  }
}

function checkOptions(options: JwtIssuerOptions): void {
  const { keys, issuer, audience, name } = options;
  if (keys.kind === "discovery" && issuer === undefined) throw invalid(`the token issuer ${name} needs its issuer URL for discovery`);
  if ((keys.kind === "discovery" || keys.kind === "jwks-url") && audience === undefined) {
    throw invalid(`the token issuer ${name} needs an audience: its provider issues tokens for other services too`);
  }
  if (keys.kind === "jwks" && !isObject(keys.jwks)) throw invalid(`the keys of the token issuer ${name} are not a JWKS`);
}

function invalid(message: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_CONFIG_INVALID", { message, cause });
}
