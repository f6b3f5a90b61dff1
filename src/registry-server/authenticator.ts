import { randomBytes } from "node:crypto";
import { collect, type Chunks } from "../bytes/index.ts";
import { Users, type Action, type AuthOptions, type Need, type Principal } from "./auth.ts";
import { Refusal } from "./refusal.ts";
import { jsonReply, type Reply } from "./reply.ts";
import { isRepositoryName, tokenPath } from "./route.ts";

/** Decides about each request before a handler sees it. */
export interface Authenticator {
  /** Throws `UNAUTHORIZED` with a challenge, or `DENIED`. `anybody`: also a request without rights is let through if it is well-formed. */
  authorize(request: AuthRequest, needs: readonly Need[]): Promise<Principal>;
  /** The token endpoint, where there is one. */
  issue?(request: AuthRequest, body: () => Chunks): Promise<Reply>;
}

export interface AuthRequest {
  readonly method: string;
  readonly authorization: string | undefined;
  readonly query: URLSearchParams;
  /** Scheme and host as the client addressed the registry. */
  readonly origin: string;
}

/** Throws `ERR_REGISTRY_SERVER_OPTIONS` for a password file that cannot be used. */
export async function openAuthenticator(options: AuthOptions, now: () => number): Promise<Authenticator> {
  switch (options.kind) {
    case "none":
      return { authorize: async () => ({ user: undefined, may: () => true }) };
    case "basic":
      return new BasicAuthenticator(options, await Users.open(options));
    case "token":
      return new TokenAuthenticator(options, await Users.open(options), now);
  }
}

class BasicAuthenticator implements Authenticator {
  readonly #users: Users;
  readonly #challenge: string;

  constructor(options: Extract<AuthOptions, { kind: "basic" }>, users: Users) {
    this.#users = users;
    this.#challenge = `Basic realm="${options.realm ?? "ociseal registry"}", charset="UTF-8"`;
  }

  async authorize(request: AuthRequest, needs: readonly Need[]): Promise<Principal> {
    const refuse = () =>
      new Refusal("UNAUTHORIZED", { message: "authentication required", headers: { "www-authenticate": this.#challenge } });
    const user = await this.#users.authenticate(request.authorization, refuse);
    const principal: Principal = { user, may: (need) => this.#users.may(user, need) };
    if (needs.every(principal.may) && (user !== undefined || needs.length > 0 || this.#users.welcomesAnybody)) return principal;
    if (user === undefined) throw refuse();
    throw denied();
  }
}

interface Token {
  readonly user: string | undefined;
  /** Repositories that the client asked for, granted or not. */
  readonly asked: ReadonlySet<string>;
  readonly scopes: ReadonlyMap<string, ReadonlySet<string>>;
  readonly expiresAt: number;
}

const maxTokens = 10_000;
const maxFormBytes = 64 * 1024;
const maxScopes = 100;

class TokenAuthenticator implements Authenticator {
  readonly #options: Extract<AuthOptions, { kind: "token" }>;
  readonly #users: Users;
  readonly #now: () => number;
  readonly #tokens = new Map<string, Token>();
  /** With the password's version: who changes it ends them all. */
  readonly #refresh = new Map<string, { readonly user: string; readonly version: string | undefined }>();

  constructor(options: Extract<AuthOptions, { kind: "token" }>, users: Users, now: () => number) {
    this.#options = options;
    this.#users = users;
    this.#now = now;
  }

  async authorize(request: AuthRequest, needs: readonly Need[]): Promise<Principal> {
    const text = /^bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(request.authorization ?? "")?.[1];
    const token = text === undefined ? undefined : this.#tokens.get(text);
    if (token === undefined || token.expiresAt <= this.#now()) {
      throw this.#challenge(request, needs, text === undefined ? undefined : "invalid_token");
    }
    const may = (need: Need) => token.scopes.get(need.repository)?.has(need.action) === true;
    if (!needs.every(may)) throw this.#challenge(request, needs, "insufficient_scope");
    // A mount from a repository that the token was never asked for: the client can get a better one. Where it asked and
    // was not granted, the mount becomes an upload instead.
    const from = request.query.has("mount") ? request.query.get("from") : null;
    if (from !== null && isRepositoryName(from) && !token.asked.has(from)) throw this.#challenge(request, needs, "insufficient_scope");
    return { user: token.user, may };
  }

  /** Source: docker-registry, "Token Authentication Specification" and "OAuth2 Token Authentication". */
  async issue(request: AuthRequest, body: () => Chunks): Promise<Reply> {
    const refuse = () => new Refusal("UNAUTHORIZED", { message: "wrong user name, password or token" });
    if (request.method === "GET") {
      const user = await this.#users.authenticate(request.authorization, refuse);
      return this.#answer(user, request.query.getAll("scope"), request.query.get("offline_token") === "true");
    }
    const form = new URLSearchParams((await collect(body(), { maxBytes: maxFormBytes, subject: "token request" })).toString("utf8"));
    const user = await this.#userOfForm(form);
    if (user === undefined) throw refuse();
    return this.#answer(user, form.getAll("scope"), form.get("access_type") === "offline" || form.get("grant_type") === "refresh_token");
  }

  async #userOfForm(form: URLSearchParams): Promise<string | undefined> {
    const grant = form.get("grant_type");
    if (grant === "refresh_token") {
      const held = this.#refresh.get(form.get("refresh_token") ?? "");
      return held !== undefined && (await this.#users.versionOf(held.user)) === held.version ? held.user : undefined;
    }
    if (grant !== "password")
      throw new Refusal("UNSUPPORTED", { status: 400, message: "grant_type is neither password nor refresh_token" });
    const name = form.get("username") ?? "";
    return (await this.#users.isPassword(name, form.get("password") ?? "")) ? name : undefined;
  }

  async #answer(user: string | undefined, scopeTexts: readonly string[], offline: boolean): Promise<Reply> {
    const lifetime = this.#options.expiresInSeconds ?? 300;
    const token = randomBytes(32).toString("base64url");
    if (this.#tokens.size >= maxTokens) forgetOldest(this.#tokens);
    const scopes = this.#granted(user, scopeTexts);
    this.#tokens.set(token, { user, asked: new Set(scopes.keys()), scopes, expiresAt: this.#now() + lifetime * 1000 });
    const refresh = offline && user !== undefined ? await this.#newRefreshToken(user) : undefined;
    return jsonReply(200, {
      token,
      access_token: token,
      expires_in: lifetime,
      issued_at: new Date(this.#now()).toISOString(),
      ...(refresh === undefined ? {} : { refresh_token: refresh }),
    });
  }

  async #newRefreshToken(user: string): Promise<string> {
    const text = randomBytes(32).toString("base64url");
    if (this.#refresh.size >= maxTokens) forgetOldest(this.#refresh);
    this.#refresh.set(text, { user, version: await this.#users.versionOf(user) });
    return text;
  }

  /** Of what is asked for, what the user may do; the rest is left out without a word, as the specification says. */
  #granted(user: string | undefined, texts: readonly string[]): ReadonlyMap<string, ReadonlySet<string>> {
    const scopes = new Map<string, Set<string>>();
    for (const text of texts.flatMap((item) => item.split(" ")).slice(0, maxScopes)) {
      const match = /^repository:([^:]+):([a-z*,]+)$/.exec(text);
      const [, repository = "", list = ""] = match ?? [];
      if (!isRepositoryName(repository)) continue;
      const asked: readonly Action[] =
        list === "*"
          ? ["pull", "push", "delete"]
          : (["pull", "push", "delete"] as const).filter((action) => list.split(",").includes(action));
      const granted = asked.filter((action) => this.#users.may(user, { repository, action }));
      scopes.set(repository, new Set([...(scopes.get(repository) ?? []), ...granted]));
    }
    return scopes;
  }

  #challenge(request: AuthRequest, needs: readonly Need[], error: string | undefined): Refusal {
    const realm = this.#options.realm ?? `${request.origin}${tokenPath}`;
    const parts = [`Bearer realm="${realm}"`, `service="${this.#options.service ?? "ociseal registry"}"`];
    const name = needs[0]?.repository;
    if (name !== undefined) {
      const from = request.query.get("from");
      const actions = needs.map(({ action }) => action).join(",");
      const source = from !== null && isRepositoryName(from) && from !== name ? ` repository:${from}:pull` : "";
      parts.push(`scope="repository:${name}:${actions}${source}"`);
    }
    if (error !== undefined) parts.push(`error="${error}"`);
    return new Refusal("UNAUTHORIZED", { message: "authentication required", headers: { "www-authenticate": parts.join(",") } });
  }
}

/** A map keeps the order of insertion. */
function forgetOldest(map: Map<string, unknown>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}

function denied(): Refusal {
  return new Refusal("DENIED", { message: "requested access to the resource is denied" });
}
