import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { digestAlgorithmOf, encodedOf, isDigest, parseJson, type Digest } from "../../bytes/index.ts";
import { manifestLimits, mediaTypes, parseIndex, serializeJson, type Descriptor, type ImageIndex } from "../../oci/index.ts";
import { describeCause, ToolError } from "../../errors/index.ts";
import type { BlobArea, IndexArea } from "../areas.ts";
import { writeFileAtomic } from "./atomic-file.ts";
import { BlobFiles, type Durability, type StagedBlob } from "./blob-files.ts";
import type { CallOptions, ContentStore, TakesBack } from "../content-store.ts";
import { ioError, StoreError, systemCode } from "../errors.ts";
import { withFileLock } from "./file-lock.ts";
import { IndexedStore } from "../indexed-store.ts";
import { ReadOnlyBlobs, ReadOnlyIndex, readOnlyError } from "../read-only.ts";
import { readSmallFile } from "./small-file.ts";
import { lockFileName, ownPrefix, temporaryName } from "./staging-folder.ts";
import { removeEmpty, WrittenFiles } from "./written-files.ts";

export interface LayoutRequest {
  readonly path: string;
  /** `read`: it must exist, and nothing is written. `write`: it is made with the first content when it does not exist. */
  readonly mode: "read" | "write";
  /** `disk` unless told; see {@link Durability}. */
  readonly durability?: Durability;
  /** What to call it in messages; `oci:PATH` unless told. */
  readonly name?: string;
}

/** A store in a folder, with a door for writers that hash for themselves. */
export interface LayoutStore extends ContentStore, Partial<TakesBack> {
  stageBlob(): Promise<StagedBlob>;
}

/** Source: OCI image-spec, image-layout.md, "oci-layout file". */
const layoutVersion = "1.0.0";
const layoutFile = "oci-layout";
const indexFile = "index.json";
const maxLayoutFileBytes = 64 * 1024;

/**
 * Opens an OCI image layout. Writers lock it, read its index again, and replace the index by one rename, so that
 * parallel writers lose nothing; entries and members that we do not know stay. Readers never see half of anything.
 *
 * Throws `ERR_STORE_NOT_FOUND` (reading what is not there), `ERR_STORE_MALFORMED` (not a layout, or of another
 * version), `ERR_STORE_IO`. Source: OCI image-spec, image-layout.md.
 */
export async function openLayout(request: LayoutRequest): Promise<LayoutStore> {
  const path = resolve(request.path);
  const name = request.name ?? `oci:${request.path}`;
  const found = await inspect(path, name);
  if (found !== "layout" && request.mode === "read") {
    throw new StoreError("ERR_STORE_NOT_FOUND", {
      message: `${name} does not exist`,
      hint: "check the path; it is relative to the current folder",
    });
  }
  const place = (digest: Digest) => join(path, "blobs", digestAlgorithmOf(digest), encodedOf(digest));
  const written = new WrittenFiles();
  const index = new LayoutIndex(path, name, request.mode, () => written.named());
  const prepare = () => makeLayout(path);
  const list = () => listBlobs(path);
  const files = new BlobFiles({ root: path, place, list, durability: request.durability ?? "disk", prepare, written });
  const readOnly = () => Promise.reject(readOnlyError(name));
  if (request.mode === "read") {
    const [blobs, entries] = [new ReadOnlyBlobs(files, name), new ReadOnlyIndex(() => index.read(), name)];
    return new DiskLayout(name, blobs, entries, { stageBlob: readOnly, takeBack: readOnly });
  }
  const takeBack = async (): Promise<void> => {
    try {
      await files.close();
      await written.takeBack(path);
      if (found !== "layout") await unmakeLayout(path, found);
    } catch (cause) {
      throw ioError(cause, `taking back what was written to ${name}`);
    }
  };
  return new DiskLayout(name, files, index, { stageBlob: () => files.stage(), takeBack });
}

class DiskLayout extends IndexedStore implements LayoutStore {
  readonly stageBlob: () => Promise<StagedBlob>;
  readonly takeBack: () => Promise<void>;

  constructor(
    name: string,
    blobs: BlobArea,
    index: IndexArea,
    { stageBlob, takeBack }: Required<Pick<LayoutStore, "stageBlob" | "takeBack">>,
  ) {
    super(name, blobs, index);
    this.stageBlob = stageBlob;
    this.takeBack = takeBack;
  }
}

/** The index.json of a layout, changed only under the layout's lock. */
class LayoutIndex implements IndexArea {
  readonly #path: string;
  readonly #name: string;
  readonly #mode: "read" | "write";
  readonly #onNamed: () => void;

  constructor(path: string, name: string, mode: "read" | "write", onNamed: () => void) {
    this.#onNamed = onNamed;
    this.#path = path;
    this.#name = name;
    this.#mode = mode;
  }

  async read(): Promise<readonly Descriptor[]> {
    const index = await readIndexFile(this.#path, this.#name);
    if (index !== undefined) return index.manifests;
    if (this.#mode === "write") return [];
    throw new StoreError("ERR_STORE_MALFORMED", {
      message: `${this.#name} has no ${indexFile}`,
      hint: "it is empty, or a copy into it was interrupted; run that copy again",
    });
  }

  async update(change: (entries: readonly Descriptor[]) => readonly Descriptor[], { signal }: CallOptions): Promise<void> {
    try {
      await makeLayout(this.#path);
      await withFileLock(join(this.#path, lockFileName), () => this.#replace(change), signal);
    } catch (cause) {
      throw ioError(cause, `updating ${indexFile} of ${this.#name}`);
    }
  }

  async #replace(change: (entries: readonly Descriptor[]) => readonly Descriptor[]): Promise<void> {
    const old = await readIndexFile(this.#path, this.#name);
    const manifests = change(old?.manifests ?? []);
    if (old?.manifests === manifests) return;
    const bytes = serializeJson({ ...(old ?? { schemaVersion: 2, mediaType: mediaTypes.index }), manifests });
    parseIndex(bytes, mediaTypes.index);
    await writeFileAtomic(join(this.#path, indexFile), bytes, temporaryName(this.#path));
    this.#onNamed();
  }
}

const maxRetries = 4;
const retryMs = 40;

/** `undefined`: not there. Other tools write it in place, so what looks broken is looked at again. */
async function readIndexFile(path: string, name: string): Promise<ImageIndex | undefined> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const bytes = await readSmallFile(join(path, indexFile), manifestLimits.maxBytes);
      return bytes === undefined ? undefined : parseIndex(bytes, mediaTypes.index);
    } catch (cause) {
      if (attempt >= maxRetries || !isMalformed(cause)) throw malformedIndex(cause, name);
      await wait(retryMs);
    }
  }
}

function isMalformed(cause: unknown): boolean {
  return cause instanceof ToolError && (cause.code === "ERR_JSON_MALFORMED" || cause.code === "ERR_MANIFEST_MALFORMED");
}

function malformedIndex(cause: unknown, name: string): Error {
  if (!isMalformed(cause)) return ioError(cause, `reading ${indexFile} of ${name}`);
  return new StoreError("ERR_STORE_MALFORMED", {
    message: `${indexFile} of ${name} is malformed: ${describeCause(cause)}`,
    hint: "another tool damaged it or writes it right now; run the command again, or make the layout anew",
    cause,
  });
}

/** The digests of all blobs; other files are not ours to look at. */
export async function listBlobs(path: string): Promise<readonly Digest[]> {
  const digests: Digest[] = [];
  for (const algorithm of await namesIn(join(path, "blobs"))) {
    for (const hex of await namesIn(join(path, "blobs", algorithm))) {
      const digest = `${algorithm}:${hex}`;
      if (isDigest(digest)) digests.push(digest);
    }
  }
  return digests;
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return readdir(folder).catch((error: unknown) =>
    systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR" ? [] : Promise.reject(error),
  );
}

/** Makes the folder a layout, the version file first: what is interrupted here is still recognised the next time. */
async function makeLayout(path: string): Promise<void> {
  const file = join(path, layoutFile);
  if ((await readSmallFile(file, maxLayoutFileBytes)) !== undefined) return;
  await mkdir(path, { recursive: true });
  await writeFileAtomic(file, serializeJson({ imageLayoutVersion: layoutVersion }), temporaryName(path));
}

/** Removes what makes a folder a layout when nothing else is in it, and the folder if it was not there before. */
async function unmakeLayout(path: string, before: "empty" | "absent"): Promise<void> {
  if ((await namesIn(path)).every((entry) => entry === layoutFile)) {
    await rm(join(path, layoutFile), { force: true });
    if (before === "absent") await removeEmpty(path);
  }
}

/** Tells a layout from an absent or empty folder; anything else is `ERR_STORE_MALFORMED`. */
async function inspect(path: string, name: string): Promise<"layout" | "empty" | "absent"> {
  try {
    const bytes = await readSmallFile(join(path, layoutFile), maxLayoutFileBytes);
    if (bytes !== undefined) {
      checkLayoutVersion(bytes, name);
      return "layout";
    }
    const names = await readdir(path);
    if (names.every((entry) => entry.startsWith(ownPrefix))) return "empty";
  } catch (cause) {
    if (systemCode(cause) === "ENOENT") return "absent";
    if (systemCode(cause) !== "ENOTDIR") throw ioError(cause, `opening ${name}`);
  }
  throw new StoreError("ERR_STORE_MALFORMED", {
    message: `${name} is not an OCI image layout (it has no ${layoutFile} file)`,
    hint: "check the path; a tar file of a layout is oci-archive:FILE, and a new layout needs a new or empty folder",
  });
}

/** Throws `ERR_STORE_MALFORMED` unless this is the content of an oci-layout file of version 1.0.0. */
export function checkLayoutVersion(bytes: Uint8Array, name: string): void {
  const value = parseJson(bytes, { maxBytes: maxLayoutFileBytes, subject: `${layoutFile} of ${name}` });
  const version = typeof value === "object" && value !== null && "imageLayoutVersion" in value ? value.imageLayoutVersion : undefined;
  if (version === layoutVersion) return;
  throw new StoreError("ERR_STORE_MALFORMED", {
    message: `${name} has image layout version ${JSON.stringify(version)?.slice(0, 40) ?? "(none)"}, only ${layoutVersion} is known`,
  });
}
