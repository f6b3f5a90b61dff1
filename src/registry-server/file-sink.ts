import { constants, createReadStream } from "node:fs";
import { open, rm, truncate, type FileHandle } from "node:fs/promises";
import type { Chunks } from "../bytes/index.ts";
import { isErrno } from "./layout-files.ts";
import type { UploadSink } from "./pending-upload.ts";
import { SizeMismatch } from "./storage.ts";

/** An upload's bytes in a file of their own; the file is open only while a body arrives. */
export class FileSink implements UploadSink {
  readonly path: string;
  #file: FileHandle | undefined;

  constructor(path: string) {
    this.path = path;
  }

  async write(pieces: readonly Uint8Array[], position: number): Promise<void> {
    try {
      const file = await this.#opened();
      let at = position;
      let rest = [...pieces];
      while (rest.length > 0) {
        const { bytesWritten } = await file.writev(rest, at);
        at += bytesWritten;
        rest = after(rest, bytesWritten);
      }
    } catch (error) {
      if (isErrno(error, "ENOSPC", "EDQUOT", "EFBIG")) throw new SizeMismatch("storage-full", "the registry's disk is full");
      throw error;
    }
  }

  async truncate(size: number): Promise<void> {
    if (size === 0 && this.#file === undefined) await rm(this.path, { force: true });
    else await truncate(this.path, size);
  }

  read(): Chunks {
    return createReadStream(this.path, { highWaterMark: 1024 * 1024 });
  }

  async rest(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async discard(): Promise<void> {
    await this.rest();
    await rm(this.path, { force: true });
  }

  /** Brings the bytes to the disk; creates the file of an empty blob. */
  async sync(): Promise<void> {
    const file = await this.#opened();
    await file.datasync();
    await this.rest();
  }

  async #opened(): Promise<FileHandle> {
    this.#file ??= await open(this.path, constants.O_RDWR | constants.O_CREAT, 0o644);
    return this.#file;
  }
}

/** What a vectored write that came back early has left to do. */
function after(pieces: readonly Uint8Array[], written: number): Uint8Array[] {
  let skip = written;
  const rest: Uint8Array[] = [];
  for (const piece of pieces) {
    if (skip >= piece.length) skip -= piece.length;
    else {
      rest.push(piece.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}
