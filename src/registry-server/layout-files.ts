import { constants } from "node:fs";
import { open, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { randomUUID } from "node:crypto";
import { digestAlgorithmOf, encodedOf, type Digest } from "../bytes/index.ts";

/** Path of a blob in a layout. The digest was parsed, so it is safe as a name. Source: OCI image-spec, image-layout.md. */
export function blobPath(layout: string, digest: Digest): string {
  return join(layout, "blobs", digestAlgorithmOf(digest), encodedOf(digest));
}

/** Writes a file so that its name shows either the old content or the whole new one, also after a crash of the machine. */
export async function writeWhole(path: string, bytes: Uint8Array | string, temporaryFolder: string): Promise<void> {
  const temporary = join(temporaryFolder, `write-${randomUUID()}`);
  const file = await open(temporary, "wx", 0o644);
  try {
    await file.writeFile(bytes);
    await file.datasync();
  } catch (error) {
    await file.close();
    await rm(temporary, { force: true });
    throw error;
  }
  await file.close();
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** Makes renames in a folder lasting. Some file systems do not know it; there the rename is all that can be had. */
export async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle | undefined;
  try {
    folder = await open(path, constants.O_RDONLY);
    await folder.sync();
  } catch (error) {
    if (!isErrno(error, "EINVAL", "EPERM", "EISDIR", "ENOTSUP")) throw error;
  } finally {
    await folder?.close();
  }
}

/** Size of a regular file, `undefined` when there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const facts = await stat(path);
    return facts.isFile() ? facts.size : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" && codes.includes(error.code);
}
