import { gzipSync } from "node:zlib";
import { collect, digestAlgorithmOf, digestOf, type Digest } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { isManifestMediaType, type Descriptor } from "../oci/index.ts";
import { digestHeader, findRepository, targetRepository } from "./blob-routes.ts";
import { locationOf, type Exchange, type RegistryCore } from "./exchange.ts";
import { describeManifest, type ManifestFacts } from "./manifest-entry.ts";
import { quote, Refusal } from "./refusal.ts";
import { bytesReply, emptyReply, type Reply } from "./reply.ts";
import { isTag, type Reference } from "./route.ts";
import type { Repository } from "./storage.ts";

/** GET and HEAD. Source: OCI distribution-spec, end-3. */
export async function getManifest(core: RegistryCore, exchange: Exchange, name: string, reference: Reference): Promise<Reply> {
  const repository = await findRepository(core, name);
  const asked = resolve(core, repository, reference);
  if (exchange.method === "HEAD" && asked !== undefined) await repository.claim(asked);
  const digest = resolve(core, repository, reference);
  const entry = digest === undefined ? undefined : repository.catalog.manifest(digest);
  if (digest === undefined || entry === undefined || !isAccepted(core, exchange, entry.mediaType)) throw unknownManifest(name, reference);
  const headers = { "content-type": entry.mediaType, etag: `"${digest}"`, ...digestHeader(core, digest) };
  if (exchange.headers["if-none-match"] === headers.etag) return emptyReply(304, headers);
  const bytes = await repository.readManifest(digest);
  const compress = core.quirks.manifestEncoding === "gzip-on-get" && exchange.method === "GET";
  if (compress && exchange.headers["accept-encoding"]?.includes("gzip") === true) {
    return bytesReply(200, gzipSync(bytes), { ...headers, "content-encoding": "gzip" });
  }
  return bytesReply(200, bytes, headers);
}

/** PUT. Source: OCI distribution-spec, end-7a and end-7b, "Pushing Manifests with Subject". */
export async function putManifest(core: RegistryCore, exchange: Exchange, name: string, reference: Reference): Promise<Reply> {
  const tags = requestedTags(core, exchange, reference);
  const bytes = await readBody(core, exchange);
  const digest = reference.kind === "digest" ? reference.digest : digestOf(bytes);
  if (core.quirks.sha512 !== "supported" && digestAlgorithmOf(digest) !== "sha256") {
    throw new Refusal("DIGEST_INVALID", { message: "this registry knows manifests by sha256 only" });
  }
  const got = digestOf(bytes, digestAlgorithmOf(digest));
  if (got !== digest)
    throw new Refusal("DIGEST_INVALID", { message: `the manifest has the digest ${got}, not ${digest}`, detail: { digest } });
  const facts = describe(core, exchange, bytes, digest);
  assertAllowedTypes(core, facts);
  const repository = await targetRepository(core, name);
  await assertContent(core, repository, facts);
  await repository.writeManifest(digest, bytes);
  // From here to the change of the catalog nothing waits, so no other request can come between check and change.
  for (const tag of tags) assertMayMove(core, exchange, repository, tag, digest);
  const target: Descriptor = { mediaType: facts.entry.mediaType, digest, size: bytes.length };
  await repository.change((catalog) => {
    catalog.addManifest(facts.entry);
    for (const tag of tags) catalog.setTag(tag, target);
  });
  return emptyReply(201, {
    location: locationOf(core, exchange, `/v2/${name}/manifests/${digest}`),
    ...digestHeader(core, digest),
    ...(facts.entry.subject !== undefined && core.quirks.referrers === "api" ? { "oci-subject": facts.entry.subject } : {}),
    ...(reference.kind === "digest" && tags.length > 0 ? { "oci-tag": tags.join(", ") } : {}),
  });
}

/** DELETE of a tag, or of a manifest with all its tags. Source: OCI distribution-spec, end-9. */
export async function deleteManifest(core: RegistryCore, name: string, reference: Reference): Promise<Reply> {
  if (reference.kind === "tag" && core.quirks.tagDelete !== "allowed") {
    const code = core.quirks.tagDelete === "refused" ? "UNSUPPORTED" : "DIGEST_INVALID";
    throw new Refusal(code, { message: "this registry does not delete tags" });
  }
  if (reference.kind === "digest" && core.quirks.contentDelete === "refused") {
    throw new Refusal("UNSUPPORTED", { message: "this registry does not delete manifests" });
  }
  const repository = await findRepository(core, name);
  const { catalog } = repository;
  if (reference.kind === "tag") {
    if (catalog.resolve(reference.tag) === undefined) throw unknownManifest(name, reference);
    await repository.change((now) => now.removeTag(reference.tag));
    return emptyReply(202);
  }
  if (catalog.manifest(reference.digest) === undefined) throw unknownManifest(name, reference);
  // First the names, then the bytes: a crash in between leaves an unnamed file, not a name of nothing.
  await repository.change((now) => now.removeManifest(reference.digest));
  await repository.remove(reference.digest);
  return emptyReply(202);
}

function resolve(core: RegistryCore, repository: Repository, reference: Reference): Digest | undefined {
  if (reference.kind === "digest") return reference.digest;
  if (core.quirks.referrersTag === "subject" && /^sha256-[0-9a-f]{64}$/.test(reference.tag)) {
    const subject: Digest = `sha256:${reference.tag.slice("sha256-".length)}`;
    if (repository.catalog.manifest(subject) !== undefined) return subject;
  }
  return repository.catalog.resolve(reference.tag);
}

function requestedTags(core: RegistryCore, exchange: Exchange, reference: Reference): readonly string[] {
  if (reference.kind === "tag") return [reference.tag];
  const tags = [...new Set(exchange.query.getAll("tag"))];
  if (tags.length > core.limits.maxTagsPerPut) {
    throw new Refusal("UNSUPPORTED", { status: 414, message: `at most ${core.limits.maxTagsPerPut} tags can be set at once` });
  }
  for (const tag of tags) if (!isTag(tag)) throw new Refusal("MANIFEST_INVALID", { message: `${quote(tag)} is not a tag` });
  return tags;
}

async function readBody(core: RegistryCore, exchange: Exchange): Promise<Buffer> {
  const maxBytes = core.quirks.manifestMaxBytes;
  const tooLarge = () =>
    new Refusal("MANIFEST_INVALID", {
      status: core.quirks.oversizedManifestStatus,
      message: `the manifest is larger than the ${maxBytes} bytes that this registry takes`,
    });
  if (Number(exchange.headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
  return collect(limitedBody(exchange, maxBytes, tooLarge), { maxBytes, subject: "manifest" });
}

async function* limitedBody(exchange: Exchange, maxBytes: number, tooLarge: () => Refusal): AsyncIterable<Uint8Array> {
  let size = 0;
  for await (const chunk of exchange.body()) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge();
    yield chunk;
  }
}

function describe(core: RegistryCore, exchange: Exchange, bytes: Buffer, digest: Digest): ManifestFacts {
  const header = exchange.headers["content-type"]?.split(";", 1)[0]?.trim();
  const own = ownMediaType(bytes);
  const mediaType = core.quirks.mediaTypeAgreement === "ignored" ? (own ?? header) : (header ?? own);
  if (mediaType === undefined || !isManifestMediaType(mediaType)) {
    throw new Refusal("MANIFEST_INVALID", {
      message: `manifest type ${quote(mediaType ?? "(none)")} is not supported (OCI image manifest and index, Docker manifest and list of schema 2 are)`,
    });
  }
  try {
    return describeManifest(bytes, mediaType, digest);
  } catch (error) {
    throw new Refusal("MANIFEST_INVALID", { message: describeCause(error) });
  }
}

/** What the document calls itself; read here only to choose the parser. */
function ownMediaType(bytes: Buffer): string | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof value === "object" && value !== null && "mediaType" in value && typeof value.mediaType === "string") return value.mediaType;
  } catch {
    throw new Refusal("MANIFEST_INVALID", { message: "the manifest is not valid JSON" });
  }
  return undefined;
}

function assertAllowedTypes(core: RegistryCore, facts: ManifestFacts): void {
  if (core.quirks.refusedMediaTypes.length === 0) return;
  const patterns = core.quirks.refusedMediaTypes.map((text) => new RegExp(`^${text.split("*").map(escapeRegExp).join(".*")}$`));
  for (const { mediaType } of [...facts.blobs, { mediaType: facts.entry.artifactType ?? "" }]) {
    if (patterns.some((pattern) => pattern.test(mediaType))) {
      throw new Refusal("MANIFEST_INVALID", { message: `media type ${quote(mediaType)} is not allowed in this registry` });
    }
  }
}

/** Source: OCI distribution-spec, "Push": a missing `subject` must be accepted, other missing content may be refused. */
async function assertContent(core: RegistryCore, repository: Repository, facts: ManifestFacts): Promise<void> {
  const missing: Descriptor[] = [];
  for (const blob of facts.blobs) {
    const size = await repository.claim(blob.digest);
    if (size === undefined) missing.push(blob);
    else assertSize(core, blob, size);
  }
  for (const child of facts.manifests) {
    await repository.claim(child.digest);
    const entry = repository.catalog.manifest(child.digest);
    if (entry === undefined) missing.push(child);
    else assertSize(core, child, entry.size);
  }
  if (missing.length === 0 || core.quirks.missingContent === "accepted") return;
  const digests = missing.slice(0, 20).map(({ digest }) => digest);
  throw new Refusal("MANIFEST_BLOB_UNKNOWN", {
    message: `the manifest names ${missing.length} blobs or manifests that are not in the repository: ${digests[0] ?? ""}`,
    detail: { digests },
  });
}

function assertSize(core: RegistryCore, descriptor: Descriptor, size: number): void {
  if (core.quirks.descriptorSize === "ignored" || descriptor.size === size) return;
  throw new Refusal("MANIFEST_INVALID", {
    message: `the manifest says that ${descriptor.digest} has ${descriptor.size} bytes, it has ${size}`,
  });
}

function assertMayMove(core: RegistryCore, exchange: Exchange, repository: Repository, tag: string, digest: Digest): void {
  const current = repository.catalog.resolve(tag);
  if (core.quirks.tagChange === "refused" && current !== undefined && current !== digest) {
    throw new Refusal("MANIFEST_INVALID", { message: `the tag ${tag} is there and immutable` });
  }
  if (core.quirks.conditionalPut === "ignored") return;
  // Source: RFC 9110 section 13.1. Lets writers of a referrers tag notice each other.
  const { "if-match": match, "if-none-match": noneMatch } = exchange.headers;
  const etag = current === undefined ? undefined : `"${current}"`;
  const failed = (match !== undefined && !lists(match, etag)) || (noneMatch !== undefined && lists(noneMatch, etag));
  if (failed) throw new Refusal("DENIED", { status: 412, message: `the tag ${tag} points to ${current ?? "nothing"} by now` });
}

function lists(header: string, etag: string | undefined): boolean {
  if (header.trim() === "*") return etag !== undefined;
  return header.split(",").some((item) => item.trim() === etag);
}

function isAccepted(core: RegistryCore, exchange: Exchange, mediaType: string): boolean {
  if (core.quirks.accept === "ignored") return true;
  const accepted = (exchange.headers.accept ?? "").split(",").map((item) => item.split(";", 1)[0]?.trim());
  return accepted.includes(mediaType);
}

function unknownManifest(name: string, reference: Reference): Refusal {
  const what = reference.kind === "tag" ? reference.tag : reference.digest;
  return new Refusal("MANIFEST_UNKNOWN", { message: `no manifest ${what} in ${name}`, detail: { reference: what } });
}

function escapeRegExp(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}
