import { openHtpasswd } from "./htpasswd.ts";
import { plainPasswords, type Passwords } from "./passwords.ts";
import type { Refusal } from "./refusal.ts";
import type { Route } from "./route.ts";

export type Action = "pull" | "push" | "delete";

/** What a user may do where. `repository`: a name, or `prefix/*` for all below, or `*` for all. */
export interface AccessRule {
  /** `undefined`: everybody, also without a password. `*`: every user. */
  readonly user?: string | undefined;
  readonly repository: string;
  readonly actions: readonly Action[];
}

/** Who has which password, and may do what. */
export type UserOptions = {
  /** Every user may do everything, and nobody else anything, unless told. */
  readonly access?: readonly AccessRule[] | undefined;
} & (
  | { /** Names and passwords. */ readonly users: Readonly<Record<string, string>>; readonly htpasswd?: undefined }
  | { /** Path of a file of names and bcrypt hashes. */ readonly htpasswd: string; readonly users?: undefined }
);

/**
 * `token`: a bearer token from the registry's own endpoint `/auth/token` (GET, and the OAuth2 POST), or from wherever
 * `realm` says. Tokens are opaque random texts with the granted scopes.
 */
export type AuthOptions =
  | { readonly kind: "none" }
  | ({ readonly kind: "basic"; readonly realm?: string | undefined } & UserOptions)
  | ({
      readonly kind: "token";
      /** Told to clients instead of the registry's own endpoint. */
      readonly realm?: string | undefined;
      readonly service?: string | undefined;
      readonly expiresInSeconds?: number | undefined;
    } & UserOptions);

/** A right that a request needs. */
export interface Need {
  readonly repository: string;
  readonly action: Action;
}

/** The rights that a request needs; none for the base endpoint, which only wants a known user. */
export function needsOf(method: string, route: Route): readonly Need[] {
  switch (route.kind) {
    case "base":
    case "catalog":
    case "token":
      return [];
    case "uploads":
    case "upload":
      return [
        { repository: route.name, action: "pull" },
        { repository: route.name, action: "push" },
      ];
    case "blob":
    case "manifest":
    case "tags":
    case "referrers":
      switch (method) {
        case "GET":
        case "HEAD":
          return [{ repository: route.name, action: "pull" }];
        case "DELETE":
          return [{ repository: route.name, action: "delete" }];
        default:
          return [
            { repository: route.name, action: "pull" },
            { repository: route.name, action: "push" },
          ];
      }
  }
}

/** Finds users and their rights. */
export class Users {
  readonly #passwords: Passwords;
  readonly #access: readonly AccessRule[] | undefined;

  private constructor(passwords: Passwords, access: readonly AccessRule[] | undefined) {
    this.#passwords = passwords;
    this.#access = access;
  }

  /** Throws `ERR_REGISTRY_SERVER_OPTIONS` for a password file that cannot be used. */
  static async open(options: UserOptions): Promise<Users> {
    const passwords = options.htpasswd === undefined ? plainPasswords(options.users) : await openHtpasswd(options.htpasswd);
    return new Users(passwords, options.access);
  }

  /** The user of a Basic header. `undefined`: no such header. Throws `UNAUTHORIZED` for a wrong password. */
  async authenticate(authorization: string | undefined, refuse: () => Refusal): Promise<string | undefined> {
    const match = /^basic +([A-Za-z0-9+/=_-]+)$/i.exec(authorization ?? "");
    if (match === null) return undefined;
    const text = Buffer.from(match[1] ?? "", "base64").toString("utf8");
    const colon = text.indexOf(":");
    const [name, password] = [text.slice(0, Math.max(colon, 0)), text.slice(colon + 1)];
    if (!(await this.isPassword(name, password))) throw refuse();
    return name;
  }

  isPassword(name: string, password: string): Promise<boolean> {
    return this.#passwords.isPassword(name, password);
  }

  versionOf(name: string): Promise<string | undefined> {
    return this.#passwords.versionOf(name);
  }

  may(user: string | undefined, need: Need): boolean {
    if (this.#access === undefined) return user !== undefined;
    return this.#access.some(
      (rule) => isMeant(rule.user, user) && rule.actions.includes(need.action) && covers(rule.repository, need.repository),
    );
  }

  /** Whether somebody without a password may do anything at all. */
  get welcomesAnybody(): boolean {
    return this.#access?.some((rule) => rule.user === undefined) === true;
  }
}

function isMeant(who: string | undefined, user: string | undefined): boolean {
  return who === undefined || who === user || (who === "*" && user !== undefined);
}

function covers(pattern: string, repository: string): boolean {
  return pattern === "*" || pattern === repository || (pattern.endsWith("/*") && repository.startsWith(pattern.slice(0, -1)));
}

/** Who sends a request and what else the sender may do. */
export interface Principal {
  readonly user: string | undefined;
  readonly may: (need: Need) => boolean;
}
