import type { IncomingHttpHeaders } from "node:http";
import type { Chunks } from "../bytes/index.ts";
import type { RegistryLimits } from "./options.ts";
import type { Quirks } from "./profile.ts";
import type { RegistryStorage } from "./storage.ts";
import type { UploadSessions } from "./upload-sessions.ts";

/** One request, as handlers see it. */
export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** Scheme and host as the client addressed them, without a slash at the end. */
  readonly origin: string;
  /** The request's body. Asks a client that waits for permission to send it. Read at most once. */
  body(): Chunks;
  /** Who sends it, `undefined` for anonymous. */
  readonly principal: string | undefined;
  /** Whether the sender may read a repository; for content that a request takes from another one. */
  mayPull(repository: string): boolean;
}

/** What all handlers share. */
export interface RegistryCore {
  readonly storage: RegistryStorage;
  readonly sessions: UploadSessions;
  readonly quirks: Quirks;
  readonly limits: RegistryLimits;
  readonly now: () => number;
  /** Repositories that exist with {@link Quirks.repositories} `fixed`. */
  readonly fixedRepositories: ReadonlySet<string>;
}

/** A value as `Location`. */
export function locationOf(core: RegistryCore, exchange: Exchange, path: string): string {
  switch (core.quirks.location) {
    case "relative":
      return path;
    case "absolute":
      return `${exchange.origin}${path}`;
    case "absolute-http":
      return `${exchange.origin.replace(/^https:/, "http:")}${path}`;
  }
}
