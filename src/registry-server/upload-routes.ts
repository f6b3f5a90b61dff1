import { digestAlgorithmOf, type Chunks, type Digest, type DigestAlgorithm } from "../bytes/index.ts";
import { assertMayExist, digestHeader, targetRepository } from "./blob-routes.ts";
import { locationOf, type Exchange, type RegistryCore } from "./exchange.ts";
import { formatProgress, parseChunkRange } from "./range.ts";
import { quote, Refusal } from "./refusal.ts";
import { emptyReply, type Reply } from "./reply.ts";
import { parseDigestText, parseRepositoryName } from "./route.ts";
import { SizeMismatch, type Repository } from "./storage.ts";
import type { UploadSession } from "./upload-sessions.ts";

const algorithms: readonly string[] = ["sha256", "sha384", "sha512"] satisfies readonly DigestAlgorithm[];
/** Repositories that a mount without `from` looks into. */
const maxMountSearch = 10_000;

/** POST: a mount, a whole blob, or a new session. Source: OCI distribution-spec, end-4a, end-4b, end-4c, end-11. */
export async function startUpload(core: RegistryCore, exchange: Exchange, name: string): Promise<Reply> {
  assertMayExist(core, name);
  const mount = exchange.query.get("mount");
  if (mount !== null) {
    const digest = parseDigestText(mount);
    const from = exchange.query.get("from");
    const source = await findMountSource(core, exchange, digest, from === null || from === "" ? undefined : parseRepositoryName(from));
    if (source !== undefined && (await mountBlob(core, name, digest, source)) === "linked")
      return createdBlob(core, exchange, name, digest);
  }
  const given = exchange.query.get("digest");
  const digest = given === null ? undefined : parseDigestText(given);
  const algorithm = digest === undefined ? parseAlgorithm(exchange.query.get("digest-algorithm")) : digestAlgorithmOf(digest);
  const session = await core.sessions.begin(name, algorithm, exchange.principal);
  if (digest === undefined || mount !== null || core.quirks.singlePost === "ignored") return sessionReply(core, exchange, session, 202);
  try {
    await receive(core, exchange, session, core.quirks.putMaxBytes);
  } catch (error) {
    // Its address was never told, so nobody can go on with it.
    await core.sessions.discard(session);
    throw error;
  }
  return finish(core, exchange, session, digest);
}

/** PATCH: one more chunk, or a stream of unknown length. Source: OCI distribution-spec, end-5. */
export async function patchUpload(core: RegistryCore, exchange: Exchange, session: UploadSession): Promise<Reply> {
  assertFresh(core, exchange, session);
  if (core.quirks.laterChunks === "lost" && session.upload.size > 0) await drain(exchange);
  else await receive(core, exchange, session, core.quirks.patchMaxBytes);
  return sessionReply(core, exchange, session, core.quirks.patchStatus);
}

/** PUT: the last chunk, if any, and the digest of the whole. Source: OCI distribution-spec, end-6. */
export async function finishUpload(core: RegistryCore, exchange: Exchange, session: UploadSession): Promise<Reply> {
  assertFresh(core, exchange, session);
  const given = exchange.query.get("digest");
  if (given === null) throw new Refusal("DIGEST_INVALID", { message: "the closing PUT has no digest parameter" });
  const digest = parseDigestText(given);
  await receive(core, exchange, session, core.quirks.putMaxBytes);
  return finish(core, exchange, session, digest);
}

/** GET: how much is there. Source: OCI distribution-spec, end-13. */
export function uploadStatus(core: RegistryCore, exchange: Exchange, session: UploadSession): Reply {
  assertFresh(core, exchange, session);
  return sessionReply(core, exchange, session, 204);
}

/** DELETE: forget it. Source: OCI distribution-spec, end-14. */
export async function cancelUpload(core: RegistryCore, session: UploadSession): Promise<Reply> {
  if (core.quirks.uploadCancel === "refused") throw new Refusal("UNSUPPORTED", { message: "this registry does not cancel uploads" });
  await core.sessions.discard(session);
  return emptyReply(204);
}

async function receive(core: RegistryCore, exchange: Exchange, session: UploadSession, maxBodyBytes: number): Promise<void> {
  const { upload } = session;
  const declared = declaredLength(exchange);
  const range = exchange.headers["content-range"];
  let expected = declared;
  if (range !== undefined && core.quirks.chunkRange === "checked" && declared !== 0) {
    const chunk = parseChunkRange(range);
    if (chunk === undefined)
      throw new Refusal("BLOB_UPLOAD_INVALID", { message: `Content-Range ${quote(range)} is not of the form <start>-<end>` });
    if (chunk.start !== upload.size) throw outOfOrder(core, exchange, session);
    expected = chunk.end - chunk.start;
    if (declared !== undefined && declared !== expected) {
      throw new Refusal("SIZE_INVALID", { message: `Content-Length is ${declared}, Content-Range speaks of ${expected} bytes` });
    }
  }
  if (expected !== undefined && expected > maxBodyBytes) throw bodyTooLarge(exchange, maxBodyBytes);
  try {
    await upload.append(limited(exchange, maxBodyBytes), { expected, maxBytes: core.limits.maxBlobBytes });
  } catch (error) {
    if (error instanceof SizeMismatch) throw sizeRefusal(error);
    throw error;
  }
}

async function drain(exchange: Exchange): Promise<void> {
  for await (const chunk of exchange.body()) void chunk;
}

async function* limited(exchange: Exchange, maxBodyBytes: number): Chunks {
  let size = 0;
  for await (const chunk of exchange.body()) {
    size += chunk.length;
    if (size > maxBodyBytes) throw bodyTooLarge(exchange, maxBodyBytes);
    yield chunk;
  }
}

async function finish(core: RegistryCore, exchange: Exchange, session: UploadSession, digest: Digest): Promise<Reply> {
  const got = await session.upload.digest(digestAlgorithmOf(digest));
  if (got !== digest) {
    await core.sessions.discard(session);
    throw new Refusal("DIGEST_INVALID", { message: `the uploaded content has the digest ${got}, not ${digest}`, detail: { digest } });
  }
  // docker-registry 2.8 takes a blob by any digest but keeps and names it by its sha256.
  const kept = core.quirks.sha512 === "blobs-mislabelled" ? await session.upload.digest("sha256") : digest;
  try {
    const repository = await targetRepository(core, session.repository);
    await repository.commit(session.upload, kept);
  } catch (error) {
    await core.sessions.discard(session);
    throw error;
  }
  core.sessions.release(session);
  return createdBlob(core, exchange, session.repository, kept);
}

async function findMountSource(
  core: RegistryCore,
  exchange: Exchange,
  digest: Digest,
  from: string | undefined,
): Promise<Repository | undefined> {
  if (core.quirks.mount === "never") return undefined;
  if (from === undefined && core.quirks.mount === "from-required") return undefined;
  if (from === undefined && core.quirks.mount === "from-or-refused") {
    throw new Refusal("NAME_INVALID", { message: "a mount must say from which repository" });
  }
  // Content of a repository that the client may not read must look as if it were not there.
  const candidates = from === undefined ? (await core.storage.names()).slice(0, maxMountSearch) : [from];
  for (const name of candidates) {
    if (!exchange.mayPull(name)) continue;
    const repository = await core.storage.find(name);
    if (repository !== undefined && (await repository.sizeOf(digest)) !== undefined) return repository;
  }
  return undefined;
}

async function mountBlob(core: RegistryCore, name: string, digest: Digest, source: Repository): Promise<"linked" | "absent"> {
  const target = await targetRepository(core, name);
  if (target !== source) return target.link(digest, source);
  return (await target.claim(digest)) === undefined ? "absent" : "linked";
}

function createdBlob(core: RegistryCore, exchange: Exchange, name: string, digest: Digest): Reply {
  return emptyReply(201, { location: locationOf(core, exchange, `/v2/${name}/blobs/${digest}`), ...digestHeader(core, digest) });
}

function sessionReply(core: RegistryCore, exchange: Exchange, session: UploadSession, status: number): Reply {
  return emptyReply(status, {
    location: sessionLocation(core, exchange, session),
    range: formatProgress(session.upload.size),
    "docker-upload-uuid": session.id,
    ...(core.quirks.chunkMinBytes > 0 ? { "oci-chunk-min-length": String(core.quirks.chunkMinBytes) } : {}),
  });
}

function sessionLocation(core: RegistryCore, exchange: Exchange, session: UploadSession): string {
  const path = `/v2/${session.repository}/blobs/uploads/${session.id}`;
  return locationOf(core, exchange, core.quirks.uploadAddress === "stateful" ? `${path}?_state=${session.upload.size}` : path);
}

/** A registry that keeps the offset in the address cannot resume: any address but the newest is unknown (docker-registry 2.8, measured). */
function assertFresh(core: RegistryCore, exchange: Exchange, session: UploadSession): void {
  if (core.quirks.uploadAddress === "stateful" && exchange.query.get("_state") !== String(session.upload.size)) {
    throw new Refusal("BLOB_UPLOAD_INVALID", { status: 404, message: "blob upload invalid" });
  }
}

function outOfOrder(core: RegistryCore, exchange: Exchange, session: UploadSession): Refusal {
  return new Refusal("BLOB_UPLOAD_INVALID", {
    status: 416,
    message: `the next chunk must begin at ${session.upload.size}`,
    headers: { location: sessionLocation(core, exchange, session), range: formatProgress(session.upload.size) },
  });
}

function bodyTooLarge(exchange: Exchange, maxBytes: number): Refusal {
  const status = exchange.method === "PATCH" ? 416 : 413;
  return new Refusal("BLOB_UPLOAD_INVALID", {
    status,
    message: `the request body is too large and exceeds the maximum permissible limit of ${maxBytes} bytes`,
  });
}

function sizeRefusal(error: SizeMismatch): Refusal {
  switch (error.reason) {
    case "length":
      return new Refusal("SIZE_INVALID", { message: error.message });
    case "too-large":
      return new Refusal("SIZE_INVALID", { status: 413, message: error.message });
    case "storage-full":
      return new Refusal("TOOMANYREQUESTS", { status: 507, message: error.message });
  }
}

function declaredLength(exchange: Exchange): number | undefined {
  const text = exchange.headers["content-length"];
  return text === undefined ? (exchange.headers["transfer-encoding"] === undefined ? 0 : undefined) : Number(text);
}

function parseAlgorithm(text: string | null): DigestAlgorithm {
  if (text === null) return "sha256";
  if (algorithms.includes(text)) return text as DigestAlgorithm;
  throw new Refusal("DIGEST_INVALID", { message: `digest algorithm ${quote(text)} is not one of ${algorithms.join(", ")}` });
}
