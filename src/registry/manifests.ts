import { BytesError, digestAlgorithmOf, digestOf, isDigest, type Digest } from "../bytes/index.ts";
import { ToolError } from "../errors/index.ts";
import {
  isIndexMediaType,
  isManifestMediaType,
  manifestLimits,
  mediaTypes,
  OciError,
  parseIndex,
  parseManifest,
  type Descriptor,
  type ImageIndex,
  type ImageManifest,
} from "../oci/index.ts";
import { StoreError, type CallOptions } from "../store/index.ts";
import { RegistryError } from "./errors.ts";
import { registryLimits } from "./options.ts";
import type { DocumentReply, RepositoryClient } from "./repository-client.ts";
import { scopesOf } from "./scopes.ts";
import { checkDigestHeader } from "./upload-session.ts";

/** All types that we read; docker-registry 2.8 answers 404 to an Accept that lacks the stored one. */
const accept = [mediaTypes.manifest, mediaTypes.index, mediaTypes.dockerManifest, mediaTypes.dockerIndex].join(", ");

const schema1: ReadonlySet<string> = new Set([
  "application/vnd.docker.distribution.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v1+prettyjws",
]);

/** Types that say nothing; the document's own mediaType decides then. */
const generic: ReadonlySet<string> = new Set(["", "application/json", "application/octet-stream"]);

/** A manifest or index with its exact bytes, checked. */
export interface FetchedManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly document: ImageManifest | ImageIndex;
}

/**
 * Gets a manifest by tag or digest. Its descriptor is made from the bytes; digest (where one was asked for), header and
 * document must agree. Throws `ERR_STORE_NOT_FOUND`, `ERR_CONTENT_DIGEST_MISMATCH`, `ERR_MANIFEST_…`.
 */
export async function fetchManifest(
  client: RepositoryClient,
  reference: string,
  subject: string,
  options: CallOptions,
  expected?: Descriptor,
): Promise<FetchedManifest> {
  const reply = await client.document(
    { method: "GET", target: `manifests/${reference}`, subject, expect: [200], headers: { accept }, signal: options.signal },
    manifestLimits.maxBytes,
  );
  const mediaType = mediaTypeOf(reply, subject);
  const algorithm = isDigest(reference) ? digestAlgorithmOf(reference) : "sha256";
  const digest = digestOf(reply.bytes, algorithm);
  if (isDigest(reference) && digest !== reference) throw changed(subject, reference, digest);
  checkHeaderDigest(reply, digest, subject);
  if (expected !== undefined && (expected.mediaType !== mediaType || expected.size !== reply.bytes.length)) {
    throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
      message: `${subject} is ${mediaType} of ${reply.bytes.length} bytes at the registry, its descriptor says ${expected.mediaType} of ${expected.size}`,
      hint: "the image is broken, or the registry changed it; push it again",
    });
  }
  const document = parseDocument(reply.bytes, mediaType);
  return { descriptor: { mediaType, digest, size: reply.bytes.length }, bytes: reply.bytes, document };
}

/** Whether a manifest is there; a web page in its place is not one. */
export async function manifestIsThere(
  client: RepositoryClient,
  target: Descriptor,
  subject: string,
  options: CallOptions,
): Promise<boolean> {
  const call = {
    method: "HEAD",
    target: `manifests/${target.digest}`,
    subject,
    expect: [200, 404],
    headers: { accept },
    ...options,
  } as const;
  const { status, headers } = await client.document(call, 0);
  if (status === 404) return false;
  const type = headers.mediaType();
  return type === target.mediaType || generic.has(type);
}

/** What a registry said when it took a manifest. */
export interface PutManifestResult {
  /** It keeps track of the manifest's subject itself. Source: distribution-spec, "Pushing Manifests with Subject". */
  readonly subjectProcessed: boolean;
}

/** Puts a manifest under a tag or its digest, exactly these bytes. Throws `ERR_REGISTRY_MANIFEST_TOO_LARGE`, `ERR_REGISTRY_BLOB_UNKNOWN`. */
export async function putManifest(
  client: RepositoryClient,
  manifest: { readonly descriptor: Descriptor; readonly bytes: Uint8Array },
  reference: string,
  subject: string,
  options: CallOptions,
): Promise<PutManifestResult> {
  const { descriptor, bytes } = manifest;
  if (bytes.length > manifestLimits.maxBytes) throw tooLarge(subject, bytes.length);
  const call = {
    method: "PUT",
    target: `manifests/${reference}`,
    subject,
    expect: [201],
    headers: { "content-type": descriptor.mediaType },
    body: bytes,
    scopes: scopesOf(client.repository, "pull", "push"),
    ...options,
  } as const;
  const reply = await client.document(call, registryLimits.errorBody).catch((error: unknown) => {
    throw explainRefusal(error, subject, bytes.length);
  });
  checkDigestHeader(reply, descriptor.digest, subject);
  return { subjectProcessed: reply.headers.one("oci-subject") !== undefined };
}

/** Parses by the type that header and document agree on. */
export function parseDocument(bytes: Uint8Array, mediaType: string): ImageManifest | ImageIndex {
  return isIndexMediaType(mediaType) ? parseIndex(bytes, mediaType) : parseManifest(bytes, mediaType);
}

/**
 * The type of a fetched document. A header that says nothing gives way to the document's own `mediaType`; a header that
 * says something else than the document is refused by the parser (CVE-2021-41190).
 */
function mediaTypeOf(reply: DocumentReply, subject: string): string {
  const header = reply.headers.mediaType();
  if (schema1.has(header)) throw oldSchema(subject, header);
  if (isManifestMediaType(header)) return header;
  if (generic.has(header)) {
    const own = ownMediaType(reply.bytes);
    if (own !== undefined && isManifestMediaType(own)) return own;
  }
  throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
    message: `${subject} was answered as ${header === "" ? "a document without a type" : JSON.stringify(header.slice(0, 100))}, which is no image manifest or index`,
    hint: header.startsWith("text/")
      ? "check host and port: a web server seems to answer there"
      : "only OCI and Docker schema 2 images are supported",
  });
}

function ownMediaType(bytes: Buffer): string | undefined {
  try {
    const document: unknown = JSON.parse(bytes.toString("utf8"));
    const own = typeof document === "object" && document !== null && "mediaType" in document ? document.mediaType : undefined;
    return typeof own === "string" ? own : undefined;
  } catch {
    // Not JSON: the caller says that it is no manifest.
    return undefined;
  }
}

function checkHeaderDigest(reply: DocumentReply, digest: Digest, subject: string): void {
  const header = reply.headers.one("docker-content-digest");
  if (header === undefined || !isDigest(header) || digestAlgorithmOf(header) !== digestAlgorithmOf(digest) || header === digest) return;
  throw changed(subject, header, digest);
}

/** With the code of `verifyContent`, so that a changed manifest and a changed blob are the same to callers. */
function changed(subject: string, expected: string, got: string): BytesError {
  return new BytesError("ERR_CONTENT_DIGEST_MISMATCH", {
    message: `${subject} does not match its digest (expected ${expected}, got ${got})`,
    hint: "the registry or a proxy changed the content; fetch it again, then report the digest to its owner",
  });
}

function oldSchema(subject: string, type: string): OciError {
  return new OciError("ERR_MANIFEST_UNSUPPORTED", {
    message: `${subject} is a Docker schema 1 manifest (${type}), which is neither encrypted nor verified`,
    hint: "push the image again with a current tool; every docker since 1.10 writes schema 2",
  });
}

/** The error for a manifest beyond the limit, which the caller checks before anything is sent. */
export function tooLarge(subject: string, size: number): RegistryError {
  return new RegistryError("ERR_REGISTRY_MANIFEST_TOO_LARGE", {
    message: `${subject} has ${size} bytes, registries accept at most ${manifestLimits.maxBytes}`,
    hint: "every recipient costs about 1 KiB per encrypted layer: use fewer recipients or squash layers",
  });
}

/** docker-registry says "request body too large" with 400, zot with 413. */
function explainRefusal(error: unknown, subject: string, size: number): unknown {
  if (!(error instanceof ToolError)) return error;
  const { status, registryCode } = error.details;
  if (status === 413 || (error.message.includes("too large") && registryCode === "MANIFEST_INVALID")) return tooLarge(subject, size);
  if (!(error instanceof StoreError)) return error;
  // The specification also allows 404 for a manifest whose blobs are missing; a missing repository is NAME_UNKNOWN.
  if (registryCode !== "MANIFEST_BLOB_UNKNOWN" && registryCode !== "BLOB_UNKNOWN" && registryCode !== "MANIFEST_UNKNOWN") return error;
  return new RegistryError("ERR_REGISTRY_BLOB_UNKNOWN", {
    message: `${subject}: the registry misses something that the manifest names (${registryCode})`,
    hint: "push again",
    cause: error,
  });
}
