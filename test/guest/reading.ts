import { GuestError } from "../../src/guest/index.ts";
import type { TarEntry } from "../../src/guest/entry.ts";
import { TarReader } from "../../src/guest/tar-reader.ts";

/** An entry with its expanded content. */
export interface ReadEntry {
  readonly entry: TarEntry;
  readonly content: Buffer;
}

/** Reads a whole stream in pieces of the given sizes, in turn. */
export function readTar(bytes: Buffer, pieces: readonly number[] = [bytes.length], maxPaxBytes = 1 << 20): ReadEntry[] {
  const entries: { entry: TarEntry; content: Buffer }[] = [];
  const reader = new TarReader(
    {
      entry: (entry) => void entries.push({ entry, content: Buffer.alloc(Math.min(entry.size, 1 << 24)) }),
      data: (chunk, position) => entries.at(-1)?.content.set(chunk, position),
      entryEnd: () => undefined,
    },
    { maxPaxBytes },
  );
  let at = 0;
  for (let turn = 0; at < bytes.length; turn += 1) {
    const size = Math.max(1, pieces[turn % pieces.length] ?? 1);
    reader.push(bytes.subarray(at, at + size));
    at += size;
  }
  reader.end();
  return entries;
}

/** The rule that refused a stream, or `"accepted"`. */
export function ruleOf(work: () => unknown): unknown {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (error instanceof GuestError && error.code === "ERR_GUEST_TAR_MALFORMED") return error.details["rule"];
    throw error;
  }
}
