import { digestOf } from "../bytes/index.ts";
import { parseChallenges } from "./challenge.ts";
import type { Credential, CredentialSource } from "./credentials.ts";
import { foreignRealm, parseRealm, realmStanding } from "./realm.ts";
import { mergeChallengeScope, mergeScopes, scopesOf, type Scopes } from "./scopes.ts";
import { basicAuthorization, requestToken } from "./token-request.ts";
import type { AuthScheme } from "./token-cache.ts";
import type { HostAccess } from "./scheme.ts";
import type { RegistryTransport, Reply } from "./transport.ts";

/** Whose requests are authorized: one repository at one registry. */
export interface AuthorizerTarget {
  readonly transport: RegistryTransport;
  readonly access: HostAccess;
  /** The host as credentials know it (`docker.io`). */
  readonly credentialHost: string;
  /** Absent for the registry itself: a login asks for a token without scopes. */
  readonly repository: string | undefined;
  readonly credentials: CredentialSource;
}

/** What to send, and what to forget if it is refused. */
export interface Authorization {
  readonly header: string | undefined;
  readonly tokenKey?: string | undefined;
}

/**
 * Decides what a request to the registry's own origin carries. Requests to any other origin never pass through here.
 *
 * The first request goes without credentials and the answer's challenge is remembered for the origin (no ping of
 * `/v2/`). Source: distribution, "Token Authentication Specification"; RFC 9110 section 11.
 */
export class Authorizer {
  readonly #target: AuthorizerTarget;
  #credential: Promise<Credential | undefined> | undefined;
  #wanted: Scopes;
  #challengedScope: string | undefined;

  constructor(target: AuthorizerTarget) {
    this.#target = target;
    this.#wanted = target.repository === undefined ? new Map() : scopesOf(target.repository, "pull");
  }

  /** Whether there are credentials for this repository. */
  async signedIn(): Promise<boolean> {
    return (await this.#findCredential()) !== undefined;
  }

  /** Asks for this much from now on, so that one token serves the whole job. */
  want(scopes: Scopes): void {
    this.#wanted = mergeScopes(this.#wanted, scopes);
  }

  /** @param extra - scopes of this one request. */
  async authorize(extra: Scopes | undefined): Promise<Authorization> {
    const credential = await this.#findCredential();
    if (credential?.kind === "registry-token") return { header: `Bearer ${credential.token}` };
    const scheme = this.#target.transport.tokens.schemes.get(this.#schemeKey());
    switch (scheme?.kind) {
      case undefined:
        return { header: undefined };
      case "basic":
        return { header: credential?.kind === "basic" ? basicAuthorization(credential.username, credential.password) : undefined };
      case "bearer":
        return this.#bearer(scheme, extra);
    }
  }

  /**
   * Learns from a 401. `again` means that another try with {@link authorize} can succeed.
   *
   * Throws `ERR_REGISTRY_REALM_REFUSED` when the only way on would be to send credentials where they do not belong.
   */
  async learn(reply: Reply, sent: Authorization, extra: Scopes | undefined): Promise<"again" | "refused"> {
    const challenges = parseChallenges(reply.headers.all("www-authenticate"));
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    const { schemes } = this.#target.transport.tokens;
    if (sent.tokenKey !== undefined && sent.header !== undefined) {
      this.#target.transport.tokens.forget(sent.tokenKey, sent.header.slice("Bearer ".length));
    }
    const credential = await this.#findCredential();
    if (credential?.kind === "registry-token") return "refused";
    if (bearer !== undefined) {
      const realm = parseRealm(this.#target.access.origin, bearer.parameters.get("realm"));
      schemes.set(this.#schemeKey(), { kind: "bearer", realm: realm.href, service: bearer.parameters.get("service") });
      this.#challengedScope = bearer.parameters.get("scope");
      const next = await this.authorize(extra);
      return next.header === undefined || next.header === sent.header ? "refused" : "again";
    }
    if (!challenges.some(({ scheme }) => scheme === "basic")) return "refused";
    schemes.set(this.#schemeKey(), { kind: "basic" });
    return credential?.kind === "basic" && sent.header?.startsWith("Basic ") !== true ? "again" : "refused";
  }

  async #bearer(scheme: Extract<AuthScheme, { kind: "bearer" }>, extra: Scopes | undefined): Promise<Authorization> {
    const { transport, access, repository } = this.#target;
    const wanted = extra === undefined ? this.#wanted : mergeScopes(this.#wanted, extra);
    const scopes = mergeChallengeScope(this.#challengedScope, wanted);
    const { origin } = access.origin;
    // Whose token it is belongs to the key: two logins in one process must not share one.
    const owner = digestOf(Buffer.from(JSON.stringify((await this.#findCredential()) ?? "anonymous")));
    const tokenKey = JSON.stringify([origin, repository, owner, scheme.realm, scheme.service, scopes]);
    const value = await transport.tokens.obtain(tokenKey, async () => {
      const realm = new URL(scheme.realm);
      const credential = await this.#findCredential();
      const standing = realmStanding(access.origin, realm, transport.options.trustedRealms ?? []);
      if (standing === "foreign" && credential !== undefined) throw foreignRealm(access.origin, realm);
      const sameOrigin = realm.origin === access.origin.origin;
      const refreshKey = `${origin} ${repository ?? ""} ${owner}`;
      const refreshed = transport.tokens.refreshed.get(refreshKey);
      // Without a signal: several requests may wait for this one, and no single one of them may end it.
      return requestToken(transport, {
        realm,
        service: scheme.service,
        scopes,
        credential:
          refreshed !== undefined && credential?.kind === "identity-token" ? { kind: "identity-token", token: refreshed } : credential,
        purpose: sameOrigin ? { kind: "named", verify: access.verify } : { kind: "pointed-to", from: await transport.reach(access.origin) },
        use: sameOrigin ? "content" : "token",
        onRefreshToken: (token) => transport.tokens.refreshed.set(refreshKey, token),
      });
    });
    return { header: `Bearer ${value}`, tokenKey };
  }

  #findCredential(): Promise<Credential | undefined> {
    this.#credential ??= this.#readCredential();
    return this.#credential;
  }

  async #readCredential(): Promise<Credential | undefined> {
    const { credentials, credentialHost, repository = "", transport } = this.#target;
    const credential = await credentials(credentialHost, repository);
    if (credential?.kind === "basic")
      transport.secrets.add(credential.password, Buffer.from(`${credential.username}:${credential.password}`).toString("base64"));
    else if (credential !== undefined) transport.secrets.add(credential.token);
    return credential;
  }

  /** Per repository, because one origin may serve repositories of several token services (a proxy, GitLab groups). */
  #schemeKey(): string {
    return `${this.#target.access.origin.origin} ${this.#target.repository ?? ""}`;
  }
}
