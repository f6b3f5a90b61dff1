import type { Digest } from "../bytes/index.ts";
import type { Exchange, RegistryCore } from "./exchange.ts";
import { isErrno } from "./layout-files.ts";
import { parseRange } from "./range.ts";
import { Refusal } from "./refusal.ts";
import { emptyReply, type Reply, type ReplyBody } from "./reply.ts";
import type { Repository } from "./storage.ts";

/** GET and HEAD of a blob, whole or one range. Source: OCI distribution-spec, "Pulling blobs". */
export async function getBlob(core: RegistryCore, exchange: Exchange, name: string, digest: Digest): Promise<Reply> {
  const repository = await findRepository(core, name);
  // Who asks by HEAD means to push a manifest that names it.
  const size = await (exchange.method === "HEAD" ? repository.claim(digest) : repository.sizeOf(digest));
  if (size === undefined) throw unknownBlob(name, digest);
  const headers = {
    "content-type": "application/octet-stream",
    "accept-ranges": "bytes",
    etag: `"${digest}"`,
    // A digest names the same bytes for ever.
    "cache-control": "max-age=31536000",
    ...digestHeader(core, digest),
  };
  if (exchange.headers["if-none-match"] === headers.etag) return emptyReply(304, headers);
  const range = parseRange(exchange.headers.range, size);
  switch (range.kind) {
    case "whole":
      return { status: 200, headers, body: blobBody(repository, name, digest, [0, size]) };
    case "part": {
      const { start, end } = range;
      const part = { ...headers, "content-range": `bytes ${start}-${end - 1}/${size}` };
      return { status: 206, headers: part, body: blobBody(repository, name, digest, [start, end]) };
    }
    case "unsatisfiable":
      throw new Refusal("SIZE_INVALID", {
        status: 416,
        message: `the blob has ${size} bytes`,
        headers: { "content-range": `bytes */${size}` },
      });
  }
}

function blobBody(repository: Repository, name: string, digest: Digest, [start, end]: readonly [number, number]): ReplyBody {
  return {
    kind: "stream",
    size: end - start,
    open: () => repository.open(digest, start, end),
    copyTo: (sink) =>
      repository.copyTo(digest, start, end, sink).catch((error: unknown) => {
        // Removed since its size was asked for.
        throw isErrno(error, "ENOENT") ? unknownBlob(name, digest) : error;
      }),
  };
}

/** Source: OCI distribution-spec, "Deleting Blobs". */
export async function deleteBlob(core: RegistryCore, name: string, digest: Digest): Promise<Reply> {
  if (core.quirks.contentDelete === "refused") throw new Refusal("UNSUPPORTED", { message: "this registry does not delete blobs" });
  const repository = await findRepository(core, name);
  if (repository.catalog.manifest(digest) !== undefined) {
    throw new Refusal("UNSUPPORTED", { message: `${digest} is a manifest; delete it at /v2/${name}/manifests/${digest}` });
  }
  if ((await repository.remove(digest)) === "absent") throw unknownBlob(name, digest);
  return emptyReply(202);
}

/** Throws `NAME_UNKNOWN`. */
export async function findRepository(core: RegistryCore, name: string): Promise<Repository> {
  const repository = await core.storage.find(name);
  if (repository === undefined) throw new Refusal("NAME_UNKNOWN", { message: `no repository ${name}` });
  return repository;
}

/** The repository that a push goes to. Throws `NAME_UNKNOWN` where repositories must be made first. */
export async function targetRepository(core: RegistryCore, name: string): Promise<Repository> {
  assertMayExist(core, name);
  return core.storage.create(name);
}

export function assertMayExist(core: RegistryCore, name: string): void {
  if (core.quirks.repositories === "fixed" && !core.fixedRepositories.has(name)) {
    throw new Refusal("NAME_UNKNOWN", { message: `the repository with name ${name} does not exist in this registry; create it first` });
  }
}

export function digestHeader(core: RegistryCore, digest: Digest): Readonly<Record<string, string>> {
  return core.quirks.digestHeader === "sent" ? { "docker-content-digest": digest } : {};
}

function unknownBlob(name: string, digest: Digest): Refusal {
  return new Refusal("BLOB_UNKNOWN", { message: `no blob ${digest} in ${name}`, detail: { digest } });
}
