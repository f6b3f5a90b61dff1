/**
 * When to speak plain HTTP.
 *
 * - `https`: never.
 * - `http-on-loopback`: to a loopback host that does not answer a TLS handshake; TLS everywhere else.
 * - `http`: always (asked for by name).
 * - `insecure`: TLS without checking certificates, else HTTP; what `insecure = true` in registries.conf asks for.
 */
export type SchemeRule = "https" | "http-on-loopback" | "http" | "insecure";

/** Every wait of the client has one of these; all in milliseconds. */
export interface RegistryTimeouts {
  /** TCP and TLS handshake. */
  readonly connectMs: number;
  /** From the sent request to the answer's headers; also the longest time a registry may refuse to take more of an upload. */
  readonly headersMs: number;
  /** From the last byte of an upload to its answer: registries copy the whole blob before they answer. */
  readonly commitMs: number;
  /** A whole answer that is not a blob. */
  readonly documentMs: number;
  /** The longest silence while a blob comes in, and the window in which `minBytesPerSecond` counts. */
  readonly stallMs: number;
  /** A blob that comes slower than this over a whole window counts as broken off and is resumed. */
  readonly minBytesPerSecond: number;
}

/** How long and how often a failed request is repeated. */
export interface RetryPolicy {
  /** Tries of one request, the first included. */
  readonly attempts: number;
  /** First pause in milliseconds; doubles each time, with full jitter. */
  readonly baseMs: number;
  /** Longest single pause that we choose ourselves. */
  readonly maxMs: number;
  /** All pauses of one request together, Retry-After included; a registry that asks for more fails at once. */
  readonly budgetMs: number;
}

/** Things worth telling the user that are not failures. */
export type RegistryNotice =
  | { readonly kind: "warning"; readonly host: string; readonly text: string }
  | { readonly kind: "retry"; readonly host: string; readonly attempt: number; readonly waitMs: number; readonly reason: string }
  | { readonly kind: "mirror-failed"; readonly host: string; readonly reason: string };

/** Options of the transport that one process shares. Environment variables are read by the caller and passed in here. */
export interface TransportOptions {
  readonly scheme?: SchemeRule | undefined;
  /** Hosts (`name` or `name:port`, as in references) that are spoken to in plain HTTP, whatever `scheme` says. */
  readonly plainHttpHosts?: readonly string[] | undefined;
  /** PEM certificates trusted besides the system's and Node's. */
  readonly ca?: readonly (string | Uint8Array)[] | undefined;
  /** PEM client certificate and key, for every registry. */
  readonly clientCertificate?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array } | undefined;
  /** Folders like `/etc/containers/certs.d`, nearest first; the first that has a folder for the host is used. */
  readonly certsDirs?: readonly string[] | undefined;
  /** The values of HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
  readonly proxy?:
    | { readonly https?: string | undefined; readonly http?: string | undefined; readonly noProxy?: string | undefined }
    | undefined;
  /** Token services on another host than their registry that may receive that registry's credentials. */
  readonly trustedRealms?: readonly TrustedRealm[] | undefined;
  /** Where credentials were looked for, for the hint of an answer that wants some: paths of files. */
  readonly credentialPlaces?: readonly string[] | undefined;
  /**
   * Connections open at once to one registry, 8 unless told, at least 2; one of them is always left for what is not a
   * download. A token service on another origin, and a storage that a registry redirects to, have as many of their own.
   */
  readonly concurrency?: number | undefined;
  /** Bytes per second of all blobs together, each direction. */
  readonly limitRate?: number | undefined;
  readonly timeouts?: Partial<RegistryTimeouts> | undefined;
  readonly retry?: Partial<RetryPolicy> | undefined;
  readonly userAgent?: string | undefined;
  readonly onNotice?: ((notice: RegistryNotice) => void) | undefined;
}

/** One pair: this registry host may send its credentials to this token service host (`name` or `name:port`). */
export interface TrustedRealm {
  readonly registry: string;
  readonly realm: string;
}

export const defaultTimeouts: RegistryTimeouts = {
  connectMs: 15_000,
  headersMs: 60_000,
  commitMs: 900_000,
  documentMs: 120_000,
  stallMs: 60_000,
  minBytesPerSecond: 512,
};

export const defaultRetry: RetryPolicy = { attempts: 6, baseMs: 250, maxMs: 15_000, budgetMs: 120_000 };

export const defaultConcurrency = 8;

/** Bounds on what a registry sends besides blobs; bytes unless said. */
export const registryLimits = {
  errorBody: 16 * 1024,
  tokenBody: 128 * 1024,
  tagsPage: 8 * 1024 * 1024,
  referrersPage: 4 * 1024 * 1024,
  /** Pages of one listing. */
  pages: 1000,
  /** Entries of one listing, all pages together. */
  entries: 1_000_000,
  referrers: 20_000,
  redirects: 5,
  /** Header block of one answer. */
  headers: 64 * 1024,
} as const;
