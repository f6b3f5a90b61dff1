import { readFile } from "node:fs/promises";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";

/** A credential that somebody else puts into a file, and rotates there. Throws `ERR_KBS_STORE_UNAVAILABLE`: it may come back. */
export async function readCredential(file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (cause) {
    throw new KbsError("ERR_KBS_STORE_UNAVAILABLE", {
      message: `the file ${file}, which holds a credential of the storage, cannot be read: ${describeCause(cause)}`,
      cause,
    });
  }
}
