import { createReadStream } from "node:fs";
import { constants, open, unlink, type FileHandle } from "node:fs/promises";
import { digestAlgorithmOf, newHasher, type ByteStage, type Digest } from "../../bytes/index.ts";
import { ioError, systemCode } from "../errors.ts";

/** Bytes of one read of a large file. */
export const readSize = 256 * 1024;

/** Forces a file to disk, if it is still there. */
export async function forceFile(path: string): Promise<void> {
  // Removed meanwhile: then no index will name it.
  const handle = await open(path, "r").catch((error: unknown) => (isAbsent(error) ? undefined : Promise.reject(error)));
  if (handle === undefined) return;
  try {
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

/** Whether a file is what its name says. */
export async function fileHasDigest(path: string, digest: Digest): Promise<boolean> {
  const hasher = newHasher(digestAlgorithmOf(digest));
  for await (const chunk of createReadStream(path, { highWaterMark: readSize }) as AsyncIterable<Uint8Array>) hasher.update(chunk);
  return hasher.digest() === digest;
}

/** Opens a regular file. A pipe or device in a hostile layout neither blocks nor is read; `undefined` when it is not there. */
export async function openRegular(
  path: string,
  doing: string,
): Promise<{ readonly handle: FileHandle; readonly size: number } | undefined> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = await handle.stat();
    if (found.isFile()) return { handle, size: found.size };
    await handle.close();
    return undefined;
  } catch (cause) {
    if (isAbsent(cause)) return undefined;
    throw ioError(cause, doing);
  }
}

/** Reads a file to its end, and closes it. */
export async function readWhole(handle: FileHandle, doing: string): Promise<Buffer> {
  try {
    return await handle.readFile();
  } catch (cause) {
    throw ioError(cause, doing);
  } finally {
    await handle.close();
  }
}

/** Makes a failing disk an `ERR_STORE_IO`. */
export function wrapReadErrors(doing: string): ByteStage {
  return async function* (source) {
    try {
      yield* source;
    } catch (cause) {
      throw ioError(cause, doing);
    }
  };
}

/** Removes a file that may be gone already. */
export async function discard(path: string): Promise<void> {
  await unlink(path).catch((cause: unknown) => {
    if (!isAbsent(cause)) throw ioError(cause, "removing a staged blob");
  });
}

/** Whether a system error says that there is no such file. */
export function isAbsent(error: unknown): boolean {
  const code = systemCode(error);
  return code === "ENOENT" || code === "ENOTDIR";
}
