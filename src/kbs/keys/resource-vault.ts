import { randomBytes } from "node:crypto";
import { KbsError } from "../errors.ts";
import { formatResourcePath, type ResourcePath } from "../protocol/resource-path.ts";
import type { SecretStore, WriteCondition } from "../stores/secret-store.ts";
import type { ResourceSource } from "../stores/mounted-folder.ts";
import type { Keyring } from "./keyring.ts";
import {
  infoOf,
  parseResource,
  serializeResource,
  type ResourceDocument,
  type ResourceInfo,
  type StoredValue,
  type StoredVersion,
} from "./resource-record.ts";

/** Values up to this many bytes stay in the resource's own record: one read per release. */
const maxInlineSize = 8 << 10;
/** Resources whose records are kept open, and how big a record may be for that. */
const maxOpened = 100;
const maxOpenedSize = 16 << 10;
/** Values of at most this many versions are kept when a resource is overwritten again and again. */
const maxVersions = 100;
const maxAttempts = 20;
/** Who made what a source holds: nobody that we know. */
const sourceSubject = "mounted";

/** What a put wants of the resource that is there. */
export type PutCondition = "any" | "absent" | { readonly version: number };

export interface PutRequest {
  readonly path: ResourcePath;
  readonly value: Uint8Array;
  readonly condition: PutCondition;
  /** Subject of the administrator. */
  readonly by: string;
  readonly now: Date;
  readonly kind?: "secret" | "key" | undefined;
  readonly rotationDays?: number | undefined;
  /** Whether the plain name releases the new version (a put) or goes on with the former one (a rotation). */
  readonly release?: "new" | "former" | undefined;
}

/** A released value and the version it is. */
export interface ResourceValue {
  readonly value: Buffer;
  readonly version: number;
  readonly info: ResourceInfo;
}

/**
 * The resources of a service: versions, states and sealed values, over any {@link SecretStore}.
 *
 * Big values are written to a record of their own before the resource's record names them, so a crash in between leaves
 * at most an unnamed value behind, never a resource without its value.
 */
export class ResourceVault {
  readonly #store: SecretStore;
  readonly #keyring: Keyring;
  readonly #sources: readonly ResourceSource[];
  readonly #opened = new Map<string, { readonly sealed: Uint8Array; readonly document: ResourceDocument }>();

  /** `sources` are asked, in order, for what the store does not hold. */
  constructor(store: SecretStore, keyring: Keyring, sources: readonly ResourceSource[] = []) {
    this.#store = store;
    this.#keyring = keyring;
    this.#sources = sources;
  }

  /**
   * The released value, or the one that a tag `name.vN` selects. `undefined` when there is no such resource or version.
   * Throws `ERR_KBS_KEY_UNAVAILABLE` for one that is disabled or destroyed.
   */
  async read(path: ResourcePath): Promise<ResourceValue | undefined> {
    const found = await this.#find(path);
    if (found === undefined) return this.#readFromSources(path);
    const { document, version } = found;
    if (version.state !== "enabled" || version.value === undefined) {
      throw new KbsError("ERR_KBS_KEY_UNAVAILABLE", {
        message: `version ${version.version} of ${document.path} is ${version.state}`,
        details: { path: document.path, version: version.version, state: version.state },
      });
    }
    return { value: await this.#valueOf(document.path, version), version: version.version, info: infoOf(document) };
  }

  /** The newest value, to wrap new layers under. Throws as {@link read}. */
  async readCurrent(path: ResourcePath): Promise<ResourceValue | undefined> {
    const info = await this.describe(path);
    return info === undefined || info.current === info.released
      ? this.read(path)
      : this.read({ ...path, tag: `${path.tag}.v${info.current}` });
  }

  /** The resource without its values; `name.vN` is not resolved. */
  async describe(path: ResourcePath): Promise<ResourceInfo | undefined> {
    const record = await this.#load(formatResourcePath(path));
    return record === undefined ? (await this.#readFromSources(path))?.info : infoOf(record.document);
  }

  /** The resource that a path names: of `name.vN` it is `name`, unless a resource of that very name exists. Policies speak of resources. */
  async nameOf(path: ResourcePath): Promise<ResourcePath> {
    const selected = versionTag(path);
    if (selected === undefined || (await this.#store.read(recordOf(formatResourcePath(path)))) !== undefined) return path;
    return (await this.#store.read(recordOf(formatResourcePath(selected.path)))) === undefined ? path : selected.path;
  }

  /** Writes a new version and makes it current. `"conflict"` when the condition does not hold; then nothing changed. */
  async put(request: PutRequest): Promise<{ readonly outcome: "created" | "updated"; readonly version: number } | "conflict"> {
    const path = formatResourcePath(request.path);
    if (await this.#isVersionOfAnother(request.path)) return "conflict";
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      const existing = await this.#load(path);
      if (!conditionHolds(request.condition, existing?.document)) return "conflict";
      const version = (existing?.document.versions.at(-1)?.version ?? 0) + 1;
      const value = await this.#storeValue(path, version, request.value);
      const at = request.now.toISOString();
      const added: StoredVersion = { version, state: "enabled", createdAt: at, createdBy: request.by, size: request.value.length, value };
      const base: ResourceDocument = existing?.document ?? {
        path,
        kind: request.kind ?? "secret",
        createdAt: at,
        createdBy: request.by,
        current: version,
        released: version,
        versions: [],
        ...(request.rotationDays === undefined ? {} : { rotationDays: request.rotationDays }),
      };
      const released = request.release === "former" ? base.released : version;
      const versions = [...base.versions, added];
      const kept = versions.filter((candidate, index) => index >= versions.length - maxVersions || candidate.version === released);
      const condition: WriteCondition = existing === undefined ? { kind: "absent" } : { kind: "revision", revision: existing.revision };
      const written = await this.#save({ ...base, current: version, released, versions: kept }, condition);
      if (written === "conflict") {
        await this.#dropValue(value);
        continue;
      }
      for (const old of versions) if (!kept.includes(old)) await this.#dropValue(old.value);
      return { outcome: existing === undefined ? "created" : "updated", version };
    }
    throw busy(path);
  }

  /** Removes a resource with all versions. */
  async remove(path: ResourcePath): Promise<"removed" | "absent"> {
    const key = formatResourcePath(path);
    const existing = await this.#load(key);
    if (existing === undefined) return "absent";
    this.#opened.delete(key);
    const outcome = await this.#store.remove(recordOf(key), { kind: "any" });
    for (const { value } of existing.document.versions) await this.#dropValue(value);
    return outcome === "removed" ? "removed" : "absent";
  }

  /**
   * Changes a resource's record under compare-and-set; `edit` may run several times and throws to refuse. Values of
   * versions that the edit dropped are removed. `undefined` when there is no such resource.
   */
  async edit(path: ResourcePath, edit: (document: ResourceDocument) => ResourceDocument): Promise<ResourceInfo | undefined> {
    const key = formatResourcePath(path);
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      const existing = await this.#load(key);
      if (existing === undefined) return undefined;
      const document = edit(existing.document);
      const outcome = await this.#save(document, { kind: "revision", revision: existing.revision });
      if (outcome === "conflict") continue;
      const kept = new Set(document.versions.map(({ value }) => (value !== undefined && "record" in value ? value.record : undefined)));
      for (const { value } of existing.document.versions) {
        if (value !== undefined && "record" in value && !kept.has(value.record)) await this.#dropValue(value);
      }
      return infoOf(document);
    }
    throw busy(key);
  }

  /** Paths below a prefix of whole segments, by page. */
  async list(request: { readonly prefix: string; readonly after?: string | undefined; readonly limit: number }) {
    const page = await this.#store.list({
      prefix: request.prefix === "" ? "resource" : `resource/${request.prefix}`,
      limit: request.limit,
      ...(request.after === undefined ? {} : { after: recordOf(request.after) }),
    });
    const strip = (key: string) => key.slice("resource/".length);
    const paths = page.keys.map(strip);
    if (this.#sources.length === 0) return { paths, next: page.next === undefined ? undefined : strip(page.next) };
    const last = page.next === undefined ? undefined : strip(page.next);
    for (const source of this.#sources) {
      const more = await source.list(request.prefix);
      paths.push(...more.filter((path) => (request.after === undefined || path > request.after) && (last === undefined || path <= last)));
    }
    return pageOf([...new Set(paths)], request.after, request.limit, last);
  }

  /** The value of one version whatever its state, for rewrapping. */
  async valueOfVersion(path: ResourcePath, version: number): Promise<Buffer | undefined> {
    const record = await this.#load(formatResourcePath(path));
    const found = record?.document.versions.find((candidate) => candidate.version === version);
    return record === undefined || found?.value === undefined ? undefined : this.#valueOf(record.document.path, found);
  }

  /** Seals a resource and its values again under the active key-encryption key, unless they are. */
  async reseal(path: ResourcePath): Promise<"resealed" | "current" | "absent"> {
    const key = formatResourcePath(path);
    const record = await this.#store.read(recordOf(key));
    if (record === undefined) return "absent";
    const document = parseResource(await this.#keyring.open(record.bytes, recordOf(key)), key);
    let changed = !this.#keyring.isCurrent(record.bytes, recordOf(key));
    for (const version of document.versions) {
      if (version.value === undefined || !("record" in version.value)) continue;
      const big = await this.#store.read(version.value.record);
      const binding = bindingOf(key, version.version);
      if (big === undefined || this.#keyring.isCurrent(big.bytes, binding)) continue;
      const sealed = this.#keyring.seal(await this.#keyring.open(big.bytes, binding), binding);
      await this.#store.write(version.value.record, sealed, { kind: "revision", revision: big.revision });
      changed = true;
    }
    if (!changed) return "current";
    const outcome = await this.#save(document, { kind: "revision", revision: record.revision });
    return outcome === "conflict" ? this.reseal(path) : "resealed";
  }

  async #readFromSources(path: ResourcePath): Promise<ResourceValue | undefined> {
    for (const source of this.#sources) {
      const value = await source.read(path);
      if (value === undefined) continue;
      const createdAt = new Date(0).toISOString();
      const version = { version: 1, state: "enabled" as const, createdAt, createdBy: sourceSubject, size: value.length };
      const base = { path: formatResourcePath(path), kind: "secret" as const, createdAt, createdBy: sourceSubject };
      return { value, version: 1, info: { ...base, current: 1, released: 1, versions: [version] } };
    }
    return undefined;
  }

  async #find(path: ResourcePath): Promise<{ readonly document: ResourceDocument; readonly version: StoredVersion } | undefined> {
    const exact = await this.#load(formatResourcePath(path));
    const selected = exact === undefined ? versionTag(path) : undefined;
    const document =
      exact?.document ?? (selected === undefined ? undefined : (await this.#load(formatResourcePath(selected.path)))?.document);
    const number = selected?.version ?? document?.released;
    const version = document?.versions.find((candidate) => candidate.version === number);
    return document === undefined || version === undefined ? undefined : { document, version };
  }

  /** A resource named like a version of another would hide that version. */
  async #isVersionOfAnother(path: ResourcePath): Promise<boolean> {
    const base = versionTag(path);
    return base !== undefined && (await this.#store.read(recordOf(formatResourcePath(base.path)))) !== undefined;
  }

  async #load(path: string): Promise<{ readonly document: ResourceDocument; readonly revision: string } | undefined> {
    const record = await this.#store.read(recordOf(path));
    if (record === undefined) return undefined;
    const { bytes, revision } = record;
    // The very same sealed bytes in the same place hold the same document: a fleet that starts asks for one key many times.
    const known = this.#opened.get(path);
    if (known !== undefined && Buffer.compare(known.sealed, bytes) === 0) return { document: known.document, revision };
    const document = parseResource(await this.#keyring.open(bytes, recordOf(path)), path);
    if (this.#opened.size >= maxOpened) this.#opened.clear();
    if (bytes.length <= maxOpenedSize) this.#opened.set(path, { sealed: bytes, document });
    return { document, revision };
  }

  #save(document: ResourceDocument, condition: WriteCondition) {
    const key = recordOf(document.path);
    // A value that is destroyed is not to stay in memory either.
    this.#opened.delete(document.path);
    return this.#store.write(key, this.#keyring.seal(serializeResource(document), key), condition);
  }

  async #storeValue(path: string, version: number, value: Uint8Array): Promise<StoredValue> {
    if (value.length <= maxInlineSize) return { inline: Buffer.from(value) };
    const record = `value/${path}/${version}-${randomBytes(8).toString("hex")}`;
    await this.#store.write(record, this.#keyring.seal(value, bindingOf(path, version)), { kind: "absent" });
    return { record };
  }

  async #valueOf(path: string, version: StoredVersion): Promise<Buffer> {
    const value = version.value;
    // A copy: the record it is part of may be kept open.
    if (value !== undefined && "inline" in value) return Buffer.from(value.inline);
    const record = value === undefined ? undefined : await this.#store.read(value.record);
    if (record === undefined)
      throw new KbsError("ERR_KBS_RECORD_CORRUPT", {
        message: `the value of version ${version.version} of ${path} is gone from the store`,
      });
    return this.#keyring.open(record.bytes, bindingOf(path, version.version));
  }

  async #dropValue(value: StoredValue): Promise<void> {
    if (value !== undefined && "record" in value) await this.#store.remove(value.record, { kind: "any" });
  }
}

function pageOf(paths: readonly string[], after: string | undefined, limit: number, last: string | undefined) {
  const sorted = paths.filter((path) => after === undefined || path > after).sort();
  const page = sorted.slice(0, limit);
  return { paths: page, next: sorted.length > page.length ? page.at(-1) : last };
}

/** `name.v3` selects version 3 of `name`. Queries would be dropped by some guests, so the version stands in the tag. */
function versionTag(path: ResourcePath): { readonly path: ResourcePath; readonly version: number } | undefined {
  const match = /^(.+)\.v([1-9][0-9]{0,8})$/.exec(path.tag);
  return match === null ? undefined : { path: { ...path, tag: match[1] ?? "" }, version: Number(match[2]) };
}

function conditionHolds(condition: PutCondition, existing: ResourceDocument | undefined): boolean {
  if (condition === "any") return true;
  if (condition === "absent") return existing === undefined;
  return existing?.current === condition.version;
}

function recordOf(path: string): string {
  return `resource/${path}`;
}

function bindingOf(path: string, version: number): string {
  return `value/${path}@${version}`;
}

function busy(path: string): KbsError {
  return new KbsError("ERR_KBS_STORE_CONFLICT", { message: `${path} is being changed by others; try again` });
}
