import { open, rename, unlink, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";

/** Writes a small file whole or not at all: beside its place, forced to disk, then renamed over it. */
export async function writeFileAtomic(path: string, bytes: Uint8Array, temporary: string): Promise<void> {
  try {
    const handle = await open(temporary, "wx", 0o644);
    try {
      await writeAll(handle, bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Forces a folder's entries to disk. Where the file system has no such thing there is nothing to do. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync().catch(ignoreUnsupported);
  } finally {
    await handle.close();
  }
}

function ignoreUnsupported(error: unknown): void {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code !== "EINVAL" && code !== "ENOTSUP" && code !== "EISDIR" && code !== "EPERM") throw error;
}

/** A single `write` may take less than it was given. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.length - written);
    written += bytesWritten;
  }
}
