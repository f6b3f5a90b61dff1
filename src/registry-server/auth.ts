import { createHash, randomBytes } from "node:crypto";
import { equalBytes } from "../bytes/index.ts";
import type { Refusal } from "./refusal.ts";
import type { Route } from "./route.ts";

export type Action = "pull" | "push" | "delete";

/** What a user may do where. `repository`: a name, or `prefix/*` for all below, or `*` for all. */
export interface AccessRule {
  /** `undefined`: everybody, also without a password. */
  readonly user?: string | undefined;
  readonly repository: string;
  readonly actions: readonly Action[];
}

export interface UserOptions {
  /** Names and passwords. */
  readonly users: Readonly<Record<string, string>>;
  /** Every user may do everything, and nobody else anything, unless told. */
  readonly access?: readonly AccessRule[] | undefined;
}

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

/** Compares passwords by hash, so that the time tells nothing, and finds users and their rights. */
export class Users {
  readonly #users: Readonly<Record<string, string>>;
  readonly #access: readonly AccessRule[] | undefined;
  readonly #salt = randomBytes(16);

  constructor(options: UserOptions) {
    this.#users = options.users;
    this.#access = options.access;
  }

  /** The user of a Basic header. `undefined`: no such header. Throws `UNAUTHORIZED` for a wrong password. */
  authenticate(authorization: string | undefined, refuse: () => Refusal): string | undefined {
    const match = /^basic +([A-Za-z0-9+/=_-]+)$/i.exec(authorization ?? "");
    if (match === null) return undefined;
    const text = Buffer.from(match[1] ?? "", "base64").toString("utf8");
    const colon = text.indexOf(":");
    const [name, password] = [text.slice(0, Math.max(colon, 0)), text.slice(colon + 1)];
    if (!this.isPassword(name, password)) throw refuse();
    return name;
  }

  isPassword(name: string, password: string): boolean {
    const expected = Object.hasOwn(this.#users, name) ? this.#users[name] : undefined;
    return equalBytes(this.#hash(password), this.#hash(expected ?? "")) && expected !== undefined;
  }

  may(user: string | undefined, need: Need): boolean {
    if (this.#access === undefined) return user !== undefined;
    return this.#access.some(
      (rule) =>
        (rule.user === undefined || rule.user === user) && rule.actions.includes(need.action) && covers(rule.repository, need.repository),
    );
  }

  /** Whether somebody without a password may do anything at all. */
  get welcomesAnybody(): boolean {
    return this.#access?.some((rule) => rule.user === undefined) === true;
  }

  #hash(text: string): Buffer {
    return createHash("sha256").update(this.#salt).update(text).digest();
  }
}

function covers(pattern: string, repository: string): boolean {
  return pattern === "*" || pattern === repository || (pattern.endsWith("/*") && repository.startsWith(pattern.slice(0, -1)));
}

/** Who sends a request and what else the sender may do. */
export interface Principal {
  readonly user: string | undefined;
  readonly may: (need: Need) => boolean;
}
