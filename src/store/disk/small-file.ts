import { constants, open } from "node:fs/promises";
import { StoreError, systemCode } from "../errors.ts";

/**
 * A small regular file whole, `undefined` when it is not there. A pipe or device is not read. Throws `ERR_STORE_LIMIT`
 * when it is larger than `maxBytes`, and what `node:fs` throws.
 */
export async function readSmallFile(path: string, maxBytes: number): Promise<Buffer | undefined> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    const code = systemCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  });
  if (handle === undefined) return undefined;
  try {
    const { size } = await handle.stat();
    if (size > maxBytes) {
      throw new StoreError("ERR_STORE_LIMIT", { message: `${path} has ${size} bytes, more than the limit of ${maxBytes} for its kind` });
    }
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}
