import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CliError, usage } from "./errors.ts";

/** Reads a small file that the user named. Throws `ERR_USAGE` when it is larger than the limit. */
export async function readSmallFile(path: string, what: string, maxBytes = 1 << 20): Promise<Buffer> {
  const { size } = await stat(path);
  if (size > maxBytes) throw usage(`${what} ${path} has ${size} bytes, more than the limit of ${maxBytes}`, "is it the right file?");
  return readFile(path);
}

/** Writes a file whole or not at all. With `exclusive`, an existing file is an error (`ERR_TARGET_EXISTS`). */
export async function writeWholeFile(
  path: string,
  bytes: Uint8Array | string,
  settings: { readonly mode?: number; readonly exclusive?: boolean } = {},
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const { mode = 0o644, exclusive = false } = settings;
  if (exclusive && (await exists(path))) {
    throw new CliError("ERR_TARGET_EXISTS", { message: `${path} already exists`, hint: "choose another name, or remove it first" });
  }
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Writes a stream into a file that appears whole or not at all. */
export async function writeStreamWhole(path: string, source: Readable, settings: { readonly mode?: number } = {}): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await pipeline(source, createWriteStream(temporary, { flags: "wx", mode: settings.mode ?? 0o644, flush: true }));
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
      throw error;
    },
  );
}
