import { randomBytes } from "node:crypto";
import { KbsError } from "../errors.ts";
import type { ResourcePath } from "../protocol/resource-path.ts";
import type { ResourceDocument, ResourceInfo, StoredVersion, VersionState } from "./resource-record.ts";
import type { ResourceVault } from "./resource-vault.ts";

/** Days after which a key should be rotated when nobody says otherwise. */
export const defaultRotationDays = 30;
const keySize = 32;
const dayMs = 24 * 3600 * 1000;

/** Makes a key of 32 random bytes here; its value is released to guests only. `"conflict"`: the name is taken. */
export function createKey(
  vault: ResourceVault,
  request: { readonly path: ResourcePath; readonly by: string; readonly now: Date; readonly rotationDays?: number | undefined },
) {
  return vault.put({
    ...request,
    value: randomBytes(keySize),
    condition: "absent",
    kind: "key",
    rotationDays: request.rotationDays ?? defaultRotationDays,
  });
}

/**
 * Adds a version under which new layers are wrapped; what the plain name releases stays. `undefined`: no such key.
 * Throws `ERR_KBS_REQUEST_REFUSED` for a resource that is no key of 32 bytes.
 */
export async function rotateKey(vault: ResourceVault, request: { readonly path: ResourcePath; readonly by: string; readonly now: Date }) {
  for (;;) {
    const info = await vault.describe(request.path);
    if (info === undefined) return undefined;
    const newest = info.versions.find(({ version }) => version === info.current);
    if (newest === undefined || newest.size !== keySize) {
      throw new KbsError("ERR_KBS_REQUEST_REFUSED", { message: `${info.path} is not a key of ${keySize} bytes` });
    }
    const outcome = await vault.put({ ...request, value: randomBytes(keySize), condition: { version: info.current }, release: "former" });
    if (outcome !== "conflict") return outcome;
  }
}

/** Which versions a change is about: one, or all. */
export type VersionSelection = number | "all";

/**
 * Enables, disables or destroys versions. A destroyed one has no value any more and stays destroyed; its row remains as
 * a tombstone. Throws `ERR_KBS_CONFLICT` for bringing one back, `ERR_KBS_NOT_FOUND` for a version that never was.
 */
export function setVersionState(
  vault: ResourceVault,
  path: ResourcePath,
  selection: VersionSelection,
  state: VersionState,
): Promise<ResourceInfo | undefined> {
  return vault.edit(path, (document) => {
    if (selection !== "all" && !document.versions.some(({ version }) => version === selection)) {
      throw new KbsError("ERR_KBS_NOT_FOUND", { message: `${document.path} has no version ${selection}` });
    }
    return { ...document, versions: document.versions.map((version) => changed(document, version, selection, state)) };
  });
}

function changed(document: ResourceDocument, version: StoredVersion, selection: VersionSelection, state: VersionState): StoredVersion {
  if (selection !== "all" && version.version !== selection) return version;
  if (version.state === "destroyed" && state !== "destroyed") {
    if (selection === "all") return version;
    throw new KbsError("ERR_KBS_CONFLICT", { message: `version ${version.version} of ${document.path} is destroyed` });
  }
  return { ...version, state, value: state === "destroyed" ? undefined : version.value };
}

/** When a key should be rotated next, or `undefined` for what has no period. */
export function rotationDueAt(info: ResourceInfo): Date | undefined {
  const newest = info.versions.find(({ version }) => version === info.current);
  if (info.rotationDays === undefined || newest === undefined) return undefined;
  return new Date(new Date(newest.createdAt).getTime() + info.rotationDays * dayMs);
}
