import type { IncomingHttpHeaders } from "node:http";
import type { AuthOptions } from "./auth.ts";
import type { Garbage } from "./collect-garbage.ts";
import type { FaultRule } from "./fault-rule.ts";
import type { VendorProfile } from "./profile.ts";

/** Bounds on what a client can make the registry spend. Sizes in bytes. */
export interface RegistryLimits {
  readonly maxBlobBytes: number;
  /** Unfinished uploads at one time, of all clients. */
  readonly maxUploads: number;
  /** An upload that nobody touched for so long is thrown away. */
  readonly uploadIdleMs: number;
  /** A connection on which nothing moves for so long is closed. */
  readonly idleMs: number;
  /** A request's header must be there after so long. */
  readonly headersMs: number;
  readonly maxConnections: number;
  /** Tags that one PUT may set. */
  readonly maxTagsPerPut: number;
  /** Descriptors on one page of referrers; a page is also kept under 4 MiB. */
  readonly referrersPage: number;
  /** Of all content in a memory storage. */
  readonly maxMemoryBytes: number;
}

export const defaultLimits: RegistryLimits = {
  maxBlobBytes: 2 ** 40,
  maxUploads: 1000,
  uploadIdleMs: 3_600_000,
  idleMs: 120_000,
  headersMs: 15_000,
  maxConnections: 2000,
  maxTagsPerPut: 100,
  referrersPage: 1000,
  maxMemoryBytes: 4 * 2 ** 30,
};

/** A finished request, safe to print: no header values, no query. */
export interface RequestRecord {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly durationMs: number;
  /** Code of the error document, where there is one. */
  readonly code?: string | undefined;
  /** Why the registry itself failed (status 500), for its operator. */
  readonly failure?: string | undefined;
}

/** A request as it came in, with its credentials: for tests that look for credentials in the wrong place. Not for logs. */
export interface ObservedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly remotePort: number | undefined;
}

/** How unreferenced content is removed while the registry serves. */
export interface CollectOptions {
  readonly everyMs: number;
  /** What was pushed or asked for within this time stays; 24 hours unless told. Longer than any push takes. */
  readonly graceMs?: number | undefined;
  /** `keep` unless told. */
  readonly untagged?: "keep" | "remove" | undefined;
  readonly report?: ((garbage: readonly Garbage[]) => void) | undefined;
}

export interface ServeRegistryOptions {
  /** Port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly storage: { readonly kind: "memory" } | { readonly kind: "directory"; readonly path: string };
  /** PEM texts. With `clientCa`, clients must show a certificate of it. */
  readonly tls?:
    | { readonly key: string | Buffer; readonly cert: string | Buffer; readonly clientCa?: string | Buffer | undefined }
    | undefined;
  /** `none` unless told. */
  readonly auth?: AuthOptions | undefined;
  /** The distribution-spec itself unless told. */
  readonly profile?: VendorProfile | undefined;
  /** Failures to play, for tests. The returned server can add more. */
  readonly faults?: readonly FaultRule[] | undefined;
  readonly limits?: Partial<RegistryLimits> | undefined;
  /** With a profile of fixed repositories: those that exist. */
  readonly repositories?: readonly string[] | undefined;
  /** Never unless told. */
  readonly collect?: CollectOptions | undefined;
  readonly log?: ((record: RequestRecord) => void) | undefined;
  readonly observe?: ((request: ObservedRequest) => void) | undefined;
  /** The clock of expiry and rate limits. */
  readonly now?: (() => number) | undefined;
}
