import { randomUUID } from "node:crypto";
import { open, unlink, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { ByteStream, Chunks } from "../../bytes/index.ts";
import type { BlobOpener } from "../../cipher/index.ts";

const readSize = 1 << 18;

/** Bytes that have to be read twice, in a file without a name: gone with its descriptor, whatever happens to the process. */
export interface Spool {
  /** Opens what was written, or a range of it. One reader at a time. */
  readonly open: BlobOpener;
  /** Waits for a read under way, and frees the space. */
  close(): Promise<void>;
}

/** Writes a stream into a spool. Ends with the stream's error, or the signal's reason. */
export async function fillSpool(source: ByteStream, folder: string, signal: AbortSignal | undefined): Promise<Spool> {
  const path = join(folder, `ociseal-${randomUUID()}.spool`);
  const file = await open(path, "wx+", 0o600);
  try {
    await unlink(path);
    await file.writeFile(source, signal === undefined ? {} : { signal });
  } catch (cause) {
    await file.close();
    throw cause;
  }
  return spoolOf(file);
}

function spoolOf(file: FileHandle): Spool {
  let reading: Promise<unknown> = Promise.resolve();
  const read = async function* (start: number, end: number): Chunks {
    for (let position = start; position < end;) {
      const length = Math.min(readSize, end - position);
      const piece = file.read(Buffer.allocUnsafe(length), 0, length, position);
      reading = piece.catch(() => undefined);
      const { bytesRead, buffer } = await piece;
      if (bytesRead === 0) return;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  };
  return {
    open: async ({ start, end } = { start: 0, end: Number.MAX_SAFE_INTEGER }) => Readable.from(read(start, end), { objectMode: false }),
    async close() {
      await reading;
      await file.close();
    },
  };
}
