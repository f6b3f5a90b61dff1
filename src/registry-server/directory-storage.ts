import { randomUUID } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { DigestAlgorithm } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { FileSink } from "./file-sink.ts";
import { fileSize } from "./layout-files.ts";
import { createLayout, openLayout, type LayoutRepository } from "./layout-repository.ts";
import { lockFolder } from "./folder-lock.ts";
import { RegistryServerError } from "./errors.ts";
import { SinkUpload } from "./pending-upload.ts";
import { isRepositoryName } from "./route.ts";
import type { PendingUpload, RegistryStorage, Repository } from "./storage.ts";

/** Folder of unfinished writes, inside the storage folder so that a rename stays on one file system. No repository's folder starts with `_`. */
const pendingFolder = "_pending";

/**
 * One OCI layout per repository: `library/alpine` lies in `library+alpine`, so that the folder is flat, no repository
 * can lie inside another's layout, and every tool can read it: `oci:DIR/library+alpine:3.20`.
 */
export class DirectoryStorage implements RegistryStorage {
  readonly #root: string;
  readonly #pending: string;
  readonly #unlock: () => Promise<void>;
  readonly #opened = new Map<string, Promise<LayoutRepository | undefined>>();

  private constructor(root: string, unlock: () => Promise<void>) {
    this.#root = root;
    this.#pending = join(root, pendingFolder);
    this.#unlock = unlock;
  }

  /**
   * Creates the folder if need be (unless it has to be an `existing` one), takes its lock, and removes unfinished writes of a process that died.
   * Throws `ERR_REGISTRY_SERVER_STORAGE` or `ERR_REGISTRY_SERVER_LOCKED`.
   */
  static async open(path: string, folder: "new-or-existing" | "existing" = "new-or-existing"): Promise<DirectoryStorage> {
    const root = resolve(path);
    try {
      if (folder === "existing") await readdir(root);
      else await mkdir(root, { recursive: true });
    } catch (cause) {
      throw unusable(root, cause);
    }
    const unlock = await lockFolder(root);
    try {
      await rm(join(root, pendingFolder), { recursive: true, force: true });
      await mkdir(join(root, pendingFolder));
    } catch (cause) {
      await unlock();
      throw unusable(root, cause);
    }
    return new DirectoryStorage(root, unlock);
  }

  async find(name: string): Promise<Repository | undefined> {
    const opened = await this.#opened.get(name);
    if (opened !== undefined) {
      await opened.refresh();
      return opened;
    }
    // Names that were never pushed leave no trace in memory: a stranger may ask for any number of them.
    if ((await fileSize(join(this.#folderOf(name), "oci-layout"))) === undefined) return undefined;
    return this.#open(name, () => openLayout(this.#placeOf(name)));
  }

  async create(name: string): Promise<Repository> {
    const found = await this.find(name);
    if (found !== undefined) return found;
    const created = await this.#open(name, () => createLayout(this.#placeOf(name)));
    if (created === undefined) throw new TypeError("a layout was not created");
    return created;
  }

  async names(): Promise<readonly string[]> {
    const entries = await readdir(this.#root, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name.replaceAll("+", "/"));
    return names.filter(isRepositoryName).sort();
  }

  async beginUpload(algorithm: DigestAlgorithm): Promise<PendingUpload> {
    return new SinkUpload(algorithm, new FileSink(join(this.#pending, `upload-${randomUUID()}`)));
  }

  async close(): Promise<void> {
    for (const repository of this.#opened.values()) await (await repository)?.settled();
    await rm(this.#pending, { recursive: true, force: true });
    await this.#unlock();
  }

  /** One opening per name, whoever asks; a failed one is forgotten. */
  #open(name: string, opening: () => Promise<LayoutRepository>): Promise<LayoutRepository | undefined> {
    const running = this.#opened.get(name);
    if (running !== undefined) return running;
    const started = opening().catch((error: unknown) => {
      this.#opened.delete(name);
      throw error;
    });
    this.#opened.set(name, started);
    return started;
  }

  #folderOf(name: string): string {
    return join(this.#root, name.replaceAll("/", "+"));
  }

  #placeOf(name: string): { readonly name: string; readonly folder: string; readonly pending: string } {
    return { name, folder: this.#folderOf(name), pending: this.#pending };
  }
}

function unusable(root: string, cause: unknown): RegistryServerError {
  return new RegistryServerError("ERR_REGISTRY_SERVER_STORAGE", {
    message: `the registry's storage folder ${root} cannot be used: ${describeCause(cause)}`,
    hint: "choose a folder that you may write, or make room on its disk",
    cause,
  });
}
