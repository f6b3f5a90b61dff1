import { isDigest, type Digest } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { isIndexMediaType } from "../oci/index.ts";
import type { Catalog } from "./catalog.ts";
import type { RegistryStorage, Repository } from "./storage.ts";

export interface GarbageRequest {
  /** What somebody pushed or asked for after this moment stays, in milliseconds since 1970: its manifest may be on its way. */
  readonly before: (repository: string) => number;
  /** `remove`: also manifests without a tag that no kept image needs and that say nothing about one. */
  readonly untagged: "keep" | "remove";
  /** `report` changes nothing. */
  readonly mode: "remove" | "report";
}

/** What was, or would be, removed from one repository. */
export interface Garbage {
  readonly repository: string;
  readonly manifests: readonly Digest[];
  readonly blobs: readonly Digest[];
  /** Size of both together. */
  readonly bytes: number;
  /** Unreferenced as well, but too young to be touched. */
  readonly young: number;
  /** Why nothing was removed: the repository could not be understood, so everything in it counts as needed. */
  readonly failure?: string | undefined;
}

/** Names of another program may change while we look; then the look is repeated this often. */
const maxLooks = 5;
/** What an index lists and is no manifest of ours is looked into up to this size. */
const maxForeignBytes = 4 * 1024 * 1024;
const digestGrammar = /sha(?:256|384|512):[0-9a-f]{64,128}/g;

/**
 * Removes what no manifest needs, repository by repository, also while clients push: whatever a client is told of (by
 * HEAD, a mount, or an upload that ended) counts as used at that moment, and stays for the time that the request says.
 */
export async function collectGarbage(storage: RegistryStorage, request: GarbageRequest): Promise<readonly Garbage[]> {
  const found: Garbage[] = [];
  for (const name of await storage.names()) {
    try {
      const repository = await storage.find(name);
      if (repository !== undefined) found.push(await collectRepository(storage, repository, request));
    } catch (error) {
      found.push({ repository: name, manifests: [], blobs: [], bytes: 0, young: 0, failure: describeCause(error) });
    }
  }
  return found;
}

async function collectRepository(storage: RegistryStorage, repository: Repository, request: GarbageRequest): Promise<Garbage> {
  const before = request.before(repository.name);
  const removed = { manifests: [] as Digest[], blobs: [] as Digest[], bytes: 0, young: 0 };
  const unneeded = request.untagged === "remove" ? unneededManifests(repository.catalog) : [];
  for (const digest of unneeded) {
    const outcome = await repository.whenIdle(digest, before, async (size) => {
      if (request.mode === "report") return size;
      return (await forget(repository, digest)) ? size : undefined;
    });
    if (outcome !== undefined) removed.manifests.push(digest);
    else removed.young += 1;
  }
  const gone = new Set(removed.manifests);
  const needed = await steadyLook(storage, repository, gone);
  for (const digest of await repository.blobs()) {
    if (needed.has(digest)) continue;
    const size = await repository.whenIdle(digest, before, async (bytes) => {
      if (request.mode === "remove") await repository.remove(digest);
      return bytes;
    });
    if (size === undefined) {
      if (!gone.has(digest)) removed.young += 1;
      continue;
    }
    if (!gone.has(digest)) removed.blobs.push(digest);
    removed.bytes += size;
  }
  return { repository: repository.name, ...removed };
}

/** Manifests that no tag leads to: not itself, not through an index, not as a referrer or subject of one that is kept. */
function unneededManifests(catalog: Catalog): readonly Digest[] {
  const kept = keptBy(catalog);
  return catalog.manifests().flatMap(({ digest }) => (kept.has(digest) ? [] : [digest]));
}

function keptBy(catalog: Catalog): ReadonlySet<Digest> {
  const kept = new Set<Digest>();
  const pending = [...catalog.named()];
  for (let digest = pending.pop(); digest !== undefined; digest = pending.pop()) {
    if (kept.has(digest)) continue;
    kept.add(digest);
    const entry = catalog.manifest(digest);
    pending.push(...(entry?.children ?? []), ...catalog.referrers(digest).map((referrer) => referrer.digest));
    if (entry?.subject !== undefined) pending.push(entry.subject);
  }
  return kept;
}

/** Takes a manifest out of the catalog, unless it got a name meanwhile. Its bytes go with the unreferenced blobs. */
async function forget(repository: Repository, digest: Digest): Promise<boolean> {
  let forgotten = false;
  await repository.change((catalog) => {
    forgotten = !keptBy(catalog).has(digest);
    if (forgotten) catalog.removeManifest(digest);
  });
  return forgotten;
}

/** Everything that is needed, looked at again when another program changed the names in the meantime. */
async function steadyLook(storage: RegistryStorage, repository: Repository, gone: ReadonlySet<Digest>): Promise<ReadonlySet<Digest>> {
  for (let look = 0; look < maxLooks; look += 1) {
    const { catalog } = repository;
    const needed = await neededBlobs(repository, gone);
    await storage.find(repository.name);
    if (repository.catalog === catalog) return needed;
  }
  throw new Error("another program keeps changing index.json");
}

/**
 * Digests of all manifests and of everything they mention, wherever they do: an unknown member of a manifest is no
 * reason to lose what it speaks of. A manifest that cannot be read fails the whole look.
 */
async function neededBlobs(repository: Repository, gone: ReadonlySet<Digest>): Promise<ReadonlySet<Digest>> {
  const { catalog } = repository;
  const needed = new Set<Digest>();
  const pending: { readonly digest: Digest; readonly kind: "document" | "blob" }[] = [
    ...catalog.named(),
    ...catalog.manifests().map(({ digest }) => digest),
  ].map((digest) => ({ digest, kind: "document" }));
  const looked = new Set<Digest>();
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { digest } = next;
    if (gone.has(digest)) continue;
    needed.add(digest);
    const entry = catalog.manifest(digest);
    if (looked.has(digest) || (entry === undefined && next.kind === "blob")) continue;
    looked.add(digest);
    const bytes = entry === undefined ? await foreignDocument(repository, digest) : await repository.readManifest(digest);
    // An image's parts are content; what an index or an unknown document lists may list more in turn.
    const kind = entry === undefined || isIndexMediaType(entry.mediaType) ? "document" : "blob";
    for (const [text] of bytes?.toString("latin1").matchAll(digestGrammar) ?? []) if (isDigest(text)) pending.push({ digest: text, kind });
  }
  return needed;
}

/** A document of a layout that another program wrote, of a type that this registry does not know. */
async function foreignDocument(repository: Repository, digest: Digest): Promise<Buffer | undefined> {
  const size = await repository.sizeOf(digest);
  return size === undefined || size > maxForeignBytes ? undefined : repository.readManifest(digest);
}
