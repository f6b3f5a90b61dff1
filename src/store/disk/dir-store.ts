import { readdir, rename, unlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { digestAlgorithmOf, digestOf, encodedOf, isDigest, type ByteStream, type ContentAddress, type Digest } from "../../bytes/index.ts";
import { guessManifestMediaType, isManifestMediaType, manifestLimits, type Descriptor } from "../../oci/index.ts";
import type { BlobArea, IndexArea } from "../areas.ts";
import { syncDirectory, writeFileAtomic } from "./atomic-file.ts";
import { BlobFiles } from "./blob-files.ts";
import { bytesStream } from "../bytes-stream.ts";
import type { BlobSource, CallOptions, ContentStore, FetchOptions, IngestRequest, TakesBack } from "../content-store.ts";
import { ioError, StoreError, systemCode } from "../errors.ts";
import { IndexedStore, notFound } from "../indexed-store.ts";
import { ReadOnlyBlobs, ReadOnlyIndex } from "../read-only.ts";
import { readDocument } from "../read.ts";
import { readSmallFile } from "./small-file.ts";
import { ownPrefix, temporaryName } from "./staging-folder.ts";
import { removeEmpty, WrittenFiles } from "./written-files.ts";

export interface DirRequest {
  readonly path: string;
  readonly mode: "read" | "write";
}

const manifestFile = "manifest.json";
const versionFile = "version";
const versionText = "Directory Transport Version: 1.1\n";
const maxVersionBytes = 1024;
const contentName = /^[0-9a-f]{64}(?:\.manifest\.json)?$/;
const signatureName = /^(?:[0-9a-f]{64}\.)?signature-[0-9]+$/;

/**
 * Opens skopeo's folder of one image: `manifest.json` is the image, `HEX` its blobs, `HEX.manifest.json` the members of
 * an index. It has no names and no referrers; only sha256. Writing another image replaces the one that is there when it
 * is tagged, and removes what only the old one had.
 *
 * Throws `ERR_STORE_NOT_FOUND`, `ERR_STORE_MALFORMED`, `ERR_STORE_IO`.
 * Source: containers-transports(5), "dir"; the files that skopeo 1.9 and 1.22 write.
 */
export async function openDir(request: DirRequest): Promise<ContentStore> {
  const path = resolve(request.path);
  const name = `dir:${request.path}`;
  const found = await inspect(path, name);
  if (found !== "image" && request.mode === "read") {
    throw new StoreError("ERR_STORE_NOT_FOUND", { message: `${name} does not exist or is empty`, hint: "check the path" });
  }
  const folder = new ImageFolder(path, name, found);
  if (request.mode === "write") return new DirStore(name, folder);
  return new IndexedStore(name, new ReadOnlyBlobs(folder, name), new ReadOnlyIndex(() => folder.read(), name));
}

class DirStore extends IndexedStore implements TakesBack {
  readonly #folder: ImageFolder;

  constructor(name: string, folder: ImageFolder) {
    super(name, folder, folder);
    this.#folder = folder;
  }

  takeBack(): Promise<void> {
    return this.#folder.takeBack();
  }

  override async tag(target: Descriptor, reference: string, options: CallOptions = {}): Promise<void> {
    if (reference !== target.digest) {
      throw new StoreError("ERR_STORE_UNSUPPORTED", {
        message: `${this.name} holds one image without a name, it cannot be named ${reference.slice(0, 200)}`,
        hint: "use oci:DIR:REF",
      });
    }
    if (!(await this.exists(target))) throw notFound(target.digest, this.name);
    await this.#folder.setRoot(target, await reachable(this, target, options));
  }
}

/** The digests of an image, to tell what in the folder is not of it. What is not there is not looked into. */
async function reachable(store: ContentStore, root: Descriptor, options: CallOptions): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  const pending = [root];
  for (let target = pending.pop(); target !== undefined; target = pending.pop()) {
    if (found.has(target.digest)) continue;
    found.add(target.digest);
    if (!isManifestMediaType(target.mediaType) || !(await store.exists(target))) continue;
    const document = await readDocument(store, target, options);
    pending.push(...(document.kind === "index" ? document.index.manifests : [document.manifest.config, ...document.manifest.layers]));
  }
  return found;
}

/** The files; as a list of manifests it has at most one. */
class ImageFolder implements BlobArea, IndexArea {
  readonly #path: string;
  readonly #name: string;
  readonly #blobs: BlobFiles;
  readonly #members: BlobFiles;
  readonly #before: "image" | "empty" | "absent";
  readonly #written = new WrittenFiles();

  constructor(path: string, name: string, before: "image" | "empty" | "absent") {
    this.#before = before;
    this.#path = path;
    this.#name = name;
    const prepare = () => this.#prepare();
    const files = (ending: string) =>
      new BlobFiles({
        root: path,
        durability: "disk",
        prepare,
        written: this.#written,
        place: (digest) => this.#place(digest, ending),
        list: () => listContent(path, ending),
      });
    this.#blobs = files("");
    this.#members = files(".manifest.json");
  }

  async read(): Promise<readonly Descriptor[]> {
    const root = await this.#root();
    return root === undefined ? [] : [root.descriptor];
  }

  async update(change: (entries: readonly Descriptor[]) => readonly Descriptor[]): Promise<void> {
    const old = await this.read();
    if (change(old) === old) return;
    throw new StoreError("ERR_STORE_UNSUPPORTED", {
      message: `${this.#name} holds one image and cannot hold what refers to it, or removing it`,
      hint: "use oci:DIR for signatures and other referrers",
    });
  }

  /** Makes a manifest that was put the image of the folder, and removes what is not of it. */
  async setRoot(target: Descriptor, keep: ReadonlySet<string>): Promise<void> {
    try {
      await this.flush();
      const root = await this.#root();
      if (root?.descriptor.digest !== target.digest)
        await rename(this.#place(target.digest, ".manifest.json"), join(this.#path, manifestFile));
      for (const name of await readdir(this.#path)) {
        const isOurs = contentName.test(name) && !keep.has(`sha256:${name.slice(0, 64)}`);
        if (isOurs || (signatureName.test(name) && root?.descriptor.digest !== target.digest)) await unlink(join(this.#path, name));
      }
      await syncDirectory(this.#path);
      this.#written.named();
    } catch (cause) {
      throw ioError(cause, `writing ${this.#name}`);
    }
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    const root = await this.#root();
    if (root?.descriptor.digest === digest) return root.descriptor.size;
    return (await this.#blobs.sizeOf(digest)) ?? this.#members.sizeOf(digest);
  }

  async has(address: ContentAddress): Promise<boolean> {
    return (await this.sizeOf(address.digest)) === address.size;
  }

  async open(address: ContentAddress, options: FetchOptions): Promise<ByteStream | undefined> {
    const root = await this.#root();
    if (root?.descriptor.digest === address.digest) return openRoot(root.bytes, options);
    return (await this.#blobs.open(address, options)) ?? this.#members.open(address, options);
  }

  async put(target: Descriptor, source: BlobSource, options: CallOptions): Promise<"pushed" | "present"> {
    if (await this.has(target)) return "present";
    return (isManifestMediaType(target.mediaType) ? this.#members : this.#blobs).put(target, source, options);
  }

  ingest(source: ByteStream, request: IngestRequest): Promise<ContentAddress> {
    return this.#blobs.ingest(source, request);
  }

  async remove(digest: Digest): Promise<"removed" | "absent"> {
    const outcomes = [await this.#blobs.remove(digest), await this.#members.remove(digest)];
    return outcomes.includes("removed") ? "removed" : "absent";
  }

  localPath(address: ContentAddress): string | undefined {
    return this.#blobs.localPath(address);
  }

  async flush(): Promise<void> {
    await this.#blobs.flush();
    await this.#members.flush();
  }

  async close(): Promise<void> {
    await this.#blobs.close();
    await this.#members.close();
  }

  async takeBack(): Promise<void> {
    try {
      await this.close();
      await this.#written.takeBack(this.#path);
      const names = this.#before === "image" ? [] : await readdir(this.#path).catch(() => []);
      if (names.length !== 1 || names[0] !== versionFile) return;
      await unlink(join(this.#path, versionFile));
      if (this.#before === "absent") await removeEmpty(this.#path);
    } catch (cause) {
      throw ioError(cause, `taking back what was written to ${this.#name}`);
    }
  }

  #place(digest: Digest, ending: string): string {
    if (digestAlgorithmOf(digest) !== "sha256") {
      throw new StoreError("ERR_STORE_UNSUPPORTED", { message: `${this.#name} knows only sha256, not ${digest}`, hint: "use oci:DIR" });
    }
    return join(this.#path, encodedOf(digest) + ending);
  }

  async #root(): Promise<{ readonly descriptor: Descriptor; readonly bytes: Buffer } | undefined> {
    try {
      const bytes = await readSmallFile(join(this.#path, manifestFile), manifestLimits.maxBytes);
      if (bytes === undefined) return undefined;
      return { descriptor: { mediaType: guessManifestMediaType(bytes), digest: digestOf(bytes), size: bytes.length }, bytes };
    } catch (cause) {
      throw ioError(cause, `reading ${manifestFile} of ${this.#name}`);
    }
  }

  async #prepare(): Promise<void> {
    const path = join(this.#path, versionFile);
    if ((await readSmallFile(path, maxVersionBytes)) === undefined) {
      await writeFileAtomic(path, Buffer.from(versionText), temporaryName(this.#path));
    }
  }
}

async function listContent(path: string, ending: string): Promise<readonly Digest[]> {
  const names = await readdir(path);
  return names.flatMap((name) => {
    const digest = `sha256:${name.slice(0, 64)}`;
    return name.slice(64) === ending && isDigest(digest) ? [digest] : [];
  });
}

function openRoot(bytes: Buffer, { range }: FetchOptions): ByteStream {
  return bytesStream(range === undefined ? bytes : bytes.subarray(range.start, range.end));
}

async function inspect(path: string, name: string): Promise<"image" | "empty" | "absent"> {
  try {
    const version = await readSmallFile(join(path, versionFile), maxVersionBytes);
    if (version !== undefined && /^Directory Transport Version: 1\.[0-9]+\n$/.test(version.toString("latin1"))) return "image";
    const names = await readdir(path);
    // skopeo looks at no version when it reads, and folders without one are in the field.
    if (version === undefined && names.includes(manifestFile)) return "image";
    if (names.every((entry) => entry.startsWith(ownPrefix))) return "empty";
  } catch (cause) {
    if (systemCode(cause) === "ENOENT") return "absent";
    if (systemCode(cause) !== "ENOTDIR") throw ioError(cause, `opening ${name}`);
  }
  throw new StoreError("ERR_STORE_MALFORMED", {
    message: `${name} is not a folder that skopeo's dir: made`,
    hint: "check the path; an OCI image layout is oci:DIR, and a new one needs a new or empty folder",
  });
}
