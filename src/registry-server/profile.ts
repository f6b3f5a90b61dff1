import { parseJson } from "../bytes/index.ts";
import { RegistryServerError } from "./errors.ts";

/** How a registry differs from the distribution-spec. Every member has a value; {@link conformant} is the specification itself. */
export interface Quirks {
  /** Without the API there is no `OCI-Subject`, and a request for referrers is 404: as text (docker-registry) or as a document (GHCR). */
  readonly referrers: "api" | "no-route" | "manifest-unknown";
  /** `ignored`: a POST with a digest only begins a session. */
  readonly singlePost: "stored" | "ignored";
  /** Without `from`: look everywhere, begin a session, or refuse (Quay). `never`: always a session. */
  readonly mount: "from-optional" | "from-required" | "from-or-refused" | "never";
  readonly patchStatus: 201 | 202 | 204;
  /** Largest body of one PATCH; more is 416. */
  readonly patchMaxBytes: number;
  /** Announced as `OCI-Chunk-Min-Length`; 0 announces nothing. */
  readonly chunkMinBytes: number;
  readonly chunkRange: "checked" | "ignored";
  /** `lost`: what comes after the first PATCH is thrown away, and the closing PUT finds a wrong digest (ECR). */
  readonly laterChunks: "kept" | "lost";
  /** `stateful`: the session's address changes with every chunk, and a stale one is 404, also after a broken PATCH. */
  readonly uploadAddress: "stable" | "stateful";
  readonly uploadCancel: "allowed" | "refused";
  /** Largest body of one PUT; more is 413. */
  readonly putMaxBytes: number;
  /** `absolute`: with scheme and host, as seen by the client; `absolute-http`: with `http:` whatever the client used. */
  readonly location: "relative" | "absolute" | "absolute-http";
  readonly manifestMaxBytes: number;
  readonly oversizedManifestStatus: 400 | 413;
  readonly digestHeader: "sent" | "left-out";
  /** `not-found`: a manifest whose type is not in `Accept` is 404. */
  readonly accept: "ignored" | "not-found";
  readonly tagChange: "allowed" | "refused";
  /** `digest-wanted`: 400, because only a digest can be deleted (docker-registry). */
  readonly tagDelete: "allowed" | "refused" | "digest-wanted";
  /** Deletion of manifests and blobs by digest. */
  readonly contentDelete: "allowed" | "refused";
  readonly tagPaging: "supported" | "ignored";
  readonly tagPageMax: number;
  readonly conditionalPut: "honoured" | "ignored";
  /** `blobs-mislabelled`: a blob is stored but called by its sha256 digest, a manifest is refused. */
  readonly sha512: "supported" | "blobs-mislabelled";
  /** A manifest that names a blob or manifest which is not there. */
  readonly missingContent: "refused" | "accepted";
  /** A descriptor whose size is not that of the stored content. */
  readonly descriptorSize: "checked" | "ignored";
  /** `Content-Type` and the document's own `mediaType`. */
  readonly mediaTypeAgreement: "checked" | "ignored";
  /** `gzip-on-get`: a manifest's GET is compressed for clients that allow it, its HEAD is not. */
  readonly manifestEncoding: "identity" | "gzip-on-get";
  /** `subject`: the tag `sha256-<hex>` gives the manifest with that digest. */
  readonly referrersTag: "ordinary" | "subject";
  /** `fixed`: only repositories that the options name can be pushed to. */
  readonly repositories: "created-on-push" | "fixed";
  /** Media types of layers, configurations and artifacts that are refused: exact, or with `*` for any text. */
  readonly refusedMediaTypes: readonly string[];
  /** Manifest GETs in a window, announced in `ratelimit-limit`; more are 429. 0: no limit. */
  readonly rateLimit: number;
  readonly rateLimitWindowSeconds: number;
}

/** A registry product or service to imitate. The data files stand in the folder `registry-fixtures/profiles`. */
export interface VendorProfile {
  readonly name: string;
  readonly provenance: string;
  readonly quirks: Quirks;
}

/** OCI distribution-spec 1.1 with the optional parts. */
export const conformant: Quirks = {
  referrers: "api",
  singlePost: "stored",
  mount: "from-optional",
  patchStatus: 202,
  patchMaxBytes: Number.MAX_SAFE_INTEGER,
  chunkMinBytes: 0,
  chunkRange: "checked",
  laterChunks: "kept",
  uploadAddress: "stable",
  uploadCancel: "allowed",
  putMaxBytes: Number.MAX_SAFE_INTEGER,
  location: "relative",
  manifestMaxBytes: 4 * 1024 * 1024,
  oversizedManifestStatus: 413,
  digestHeader: "sent",
  accept: "ignored",
  tagChange: "allowed",
  tagDelete: "allowed",
  contentDelete: "allowed",
  tagPaging: "supported",
  tagPageMax: 10_000,
  conditionalPut: "honoured",
  sha512: "supported",
  missingContent: "refused",
  descriptorSize: "checked",
  mediaTypeAgreement: "checked",
  manifestEncoding: "identity",
  referrersTag: "ordinary",
  repositories: "created-on-push",
  refusedMediaTypes: [],
  rateLimit: 0,
  rateLimitWindowSeconds: 21_600,
};

type Check = (value: unknown) => boolean;
const oneOf =
  (...allowed: readonly unknown[]): Check =>
  (value) =>
    allowed.includes(value);
const count: Check = (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
const texts: Check = (value) => Array.isArray(value) && value.every((item) => typeof item === "string" && item.length <= 200);

const checks: Readonly<Record<keyof Quirks, Check>> = {
  referrers: oneOf("api", "no-route", "manifest-unknown"),
  singlePost: oneOf("stored", "ignored"),
  mount: oneOf("from-optional", "from-required", "from-or-refused", "never"),
  patchStatus: oneOf(201, 202, 204),
  patchMaxBytes: count,
  chunkMinBytes: count,
  chunkRange: oneOf("checked", "ignored"),
  laterChunks: oneOf("kept", "lost"),
  uploadAddress: oneOf("stable", "stateful"),
  uploadCancel: oneOf("allowed", "refused"),
  putMaxBytes: count,
  location: oneOf("relative", "absolute", "absolute-http"),
  manifestMaxBytes: count,
  oversizedManifestStatus: oneOf(400, 413),
  digestHeader: oneOf("sent", "left-out"),
  accept: oneOf("ignored", "not-found"),
  tagChange: oneOf("allowed", "refused"),
  tagDelete: oneOf("allowed", "refused", "digest-wanted"),
  contentDelete: oneOf("allowed", "refused"),
  tagPaging: oneOf("supported", "ignored"),
  tagPageMax: count,
  conditionalPut: oneOf("honoured", "ignored"),
  sha512: oneOf("supported", "blobs-mislabelled"),
  missingContent: oneOf("refused", "accepted"),
  descriptorSize: oneOf("checked", "ignored"),
  mediaTypeAgreement: oneOf("checked", "ignored"),
  manifestEncoding: oneOf("identity", "gzip-on-get"),
  referrersTag: oneOf("ordinary", "subject"),
  repositories: oneOf("created-on-push", "fixed"),
  refusedMediaTypes: texts,
  rateLimit: count,
  rateLimitWindowSeconds: count,
};

/**
 * Reads a profile file: `{ "name", "provenance", "quirks": { … } }`, where `quirks` says only what differs from the
 * specification. Unknown members and values are refused. Throws `ERR_REGISTRY_SERVER_OPTIONS`.
 */
export function parseVendorProfile(bytes: Uint8Array | string, subject = "vendor profile"): VendorProfile {
  const file = asRecord(parseJson(bytes, { maxBytes: 64 * 1024, subject }), subject);
  for (const key of Object.keys(file))
    if (!["name", "provenance", "quirks"].includes(key)) throw malformed(`${subject} has an unknown member ${JSON.stringify(key)}`);
  const { name, provenance } = file;
  if (typeof name !== "string" || !/^[a-z0-9][a-z0-9.-]{0,63}$/.test(name)) throw malformed(`${subject} has no usable name`);
  if (typeof provenance !== "string" || provenance === "") throw malformed(`${subject} does not say where it comes from`);
  const given = asRecord(file["quirks"], `${subject}.quirks`);
  for (const [key, value] of Object.entries(given)) {
    const check = Object.hasOwn(checks, key) ? checks[key as keyof Quirks] : undefined;
    if (check === undefined) throw malformed(`${subject} has an unknown quirk ${JSON.stringify(key)}`);
    if (!check(value)) throw malformed(`${subject} has an unknown value of ${key}: ${JSON.stringify(value)?.slice(0, 80)}`);
  }
  return { name, provenance, quirks: { ...conformant, ...(given as Partial<Quirks>) } };
}

function asRecord(value: unknown, subject: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${subject} is not an object`);
  return value as Readonly<Record<string, unknown>>;
}

function malformed(message: string): RegistryServerError {
  return new RegistryServerError("ERR_REGISTRY_SERVER_OPTIONS", {
    message,
    hint: "see registry-fixtures/README.md for the members and their values",
  });
}
