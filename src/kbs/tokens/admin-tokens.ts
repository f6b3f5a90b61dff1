import { randomUUID } from "node:crypto";
import { decodeProtectedHeader, jwtVerify } from "jose";
import { signCompact } from "./jws.ts";
import { builtInRoles, type Grant } from "./grants.ts";
import type { SigningKeys } from "./signing-keys.ts";

/** Who administers, proved by a token or a client certificate. */
export interface AdminIdentity {
  readonly subject: string;
  readonly roles: readonly string[];
  readonly grants: readonly Grant[];
  /** `jti` of the token. */
  readonly tokenId: string | undefined;
  readonly issuer: string;
}

/** The request that carries a token, for rights that are about requests. */
export interface TokenUse {
  readonly method: string;
  /** Path without query. */
  readonly path: string;
}

/** Verifies a bearer token. `undefined`: not a token of mine; throwing: mine, and refused. */
export interface AdminTokenVerifier {
  verify(token: string, now: Date, use: TokenUse): Promise<AdminIdentity | undefined>;
}

export const ownIssuer = "ociseal-kbs";
export const adminAudience = "kbs";
const clockLeewaySeconds = 60;

/** Tokens that this service itself issued (`kbs token`, `--dev`), with an Ed25519 key of its store. */
export class OwnAdminTokens implements AdminTokenVerifier {
  readonly #keys: SigningKeys;
  readonly #roles: Readonly<Record<string, readonly Grant[]>>;

  constructor(keys: SigningKeys, roles: Readonly<Record<string, readonly Grant[]>>) {
    this.#keys = keys;
    this.#roles = { ...builtInRoles, ...roles };
  }

  /** The rights of a role; none for one that is not known. */
  grantsOf(role: string): readonly Grant[] {
    return (Object.hasOwn(this.#roles, role) ? this.#roles[role] : undefined) ?? [];
  }

  /**
   * Issues a token that ours and Trustee's clients send: EdDSA, with `role` as Trustee 0.21 demands. Its rights are
   * those of the role at the time of use, or the grants that stand in the token itself.
   */
  issue(request: {
    readonly subject: string;
    readonly role: string;
    readonly grants?: readonly Grant[] | undefined;
    readonly now: Date;
    readonly lifetimeSeconds: number;
  }) {
    const iat = Math.floor(request.now.getTime() / 1000);
    const { key } = this.#keys.active;
    return signCompact(
      { typ: "JWT", kid: key.kid },
      {
        iss: ownIssuer,
        sub: request.subject,
        aud: [adminAudience],
        role: request.role,
        jti: randomUUID(),
        iat,
        exp: iat + request.lifetimeSeconds,
        ...(request.grants === undefined ? {} : { grants: request.grants }),
      },
      key,
    );
  }

  async verify(token: string, now: Date): Promise<AdminIdentity | undefined> {
    const { kid } = decodeProtectedHeader(token);
    if (kid === undefined) return undefined;
    const key = await this.#keys.find(kid);
    if (key === undefined) return undefined;
    const { payload } = await jwtVerify(token, key.publicKey, {
      algorithms: [key.algorithm],
      issuer: ownIssuer,
      audience: adminAudience,
      requiredClaims: ["sub", "exp", "role", "jti"],
      clockTolerance: clockLeewaySeconds,
      currentDate: now,
    });
    const role = String(payload["role"]);
    // Signed by ourselves, hence of the shape that `issue` gave it.
    const own = payload["grants"] as readonly Grant[] | undefined;
    const grants = own ?? this.grantsOf(role);
    return { subject: String(payload.sub), roles: [role], grants, tokenId: payload.jti, issuer: ownIssuer };
  }
}
