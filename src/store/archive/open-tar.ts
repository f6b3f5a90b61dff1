import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { limitBytes } from "../../bytes/index.ts";
import { ioError, StoreError } from "../errors.ts";
import { TarFile } from "./tar-file.ts";

/** How an archive or a layer is compressed, by its first bytes. */
export type Compression = "none" | "gzip" | "zstd" | "bzip2" | "xz";

const magics: readonly (readonly [Compression, Buffer])[] = [
  ["gzip", Buffer.from([0x1f, 0x8b])], // RFC 1952 section 2.3.1
  ["zstd", Buffer.from([0x28, 0xb5, 0x2f, 0xfd])], // RFC 8878 section 3.1.1
  ["bzip2", Buffer.from("BZh", "latin1")],
  ["xz", Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
];

/** @param start - the first 6 bytes, fewer when there are no more. */
export function compressionOf(start: Uint8Array): Compression {
  const found = magics.find(([, magic]) => magic.equals(start.subarray(0, magic.length)));
  return found === undefined ? "none" : found[0];
}

/** Bounds on what a compressed archive may unpack to. */
export interface ArchiveLimits {
  /** Bytes; 256 GiB unless told. */
  readonly maxUnpackedSize?: number | undefined;
}

const defaultMaxUnpackedSize = 256 * 1024 ** 3;

/** An opened archive; `close` also removes what was made for it. */
interface OpenedTar {
  readonly tar: TarFile;
  readonly close: () => Promise<void>;
}

/**
 * Opens a tar file. A compressed one (gzip, zstd) is unpacked to a temporary file first, and one that comes through a pipe
 * (`docker save … |`, `/dev/stdin`) is written to one: its members come in any order, and what names them may be the last.
 */
export async function openTar(path: string, subject: string, limits: ArchiveLimits = {}): Promise<OpenedTar> {
  const limit = () => limitBytes(limits.maxUnpackedSize ?? defaultMaxUnpackedSize, `${subject}, unpacked,`);
  if (await isPipe(path)) {
    const spool = (file: string) => pipeline(createReadStream(path), limit(), createWriteStream(file));
    return openCopy(spool, subject, (file) => openTar(file, subject, limits));
  }
  const compression = await sniff(path);
  if (compression === undefined || compression === "none") return openPlain(path, subject);
  const inflate = decompressor(compression, subject);
  const unpack = (file: string) =>
    pipeline(createReadStream(path), inflate, limit(), createWriteStream(file)).catch((cause: unknown) => {
      throw unpackError(cause, subject);
    });
  return openCopy(unpack, subject, (file) => openPlain(file, subject));
}

async function openPlain(path: string, subject: string): Promise<OpenedTar> {
  const tar = await TarFile.open(path, subject);
  return { tar, close: () => tar.close() };
}

/** Opens what `make` writes to a temporary file. */
async function openCopy(
  make: (file: string) => Promise<void>,
  subject: string,
  openFile: (file: string) => Promise<OpenedTar>,
): Promise<OpenedTar> {
  const folder = await mkdtemp(join(tmpdir(), "ociseal-archive-"));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const file = join(folder, "archive.tar");
    await make(file);
    const { tar, close } = await openFile(file);
    return {
      tar,
      close: async () => {
        await close();
        await remove();
      },
    };
  } catch (cause) {
    await remove();
    throw ioError(cause, `unpacking ${subject}`);
  }
}

/** Absent and unreadable files are no pipes: opening them for real gives the right error. */
async function isPipe(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFIFO() === true;
}

/** `undefined` when it cannot be told: opening it for real gives the right error. */
async function sniff(path: string): Promise<Compression | undefined> {
  const handle = await open(path).catch(() => undefined);
  if (handle === undefined) return undefined;
  try {
    if (!(await handle.stat()).isFile()) return undefined;
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(6), 0, 6, 0);
    return compressionOf(buffer.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}

function decompressor(compression: Exclude<Compression, "none">, subject: string): Transform {
  switch (compression) {
    case "gzip":
      return createGunzip();
    case "zstd":
      return createZstdDecompress();
    case "bzip2":
    case "xz":
      throw new StoreError("ERR_STORE_UNSUPPORTED", {
        message: `${subject} is compressed with ${compression}, which is not supported`,
        hint: `unpack it first (${compression === "xz" ? "unxz" : "bunzip2"} FILE), or compress it with gzip or zstd`,
      });
  }
}

/** zlib's errors are about the content, not about input and output. */
function unpackError(cause: unknown, subject: string): Error {
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : "";
  if (!code.startsWith("Z_") && !code.startsWith("ZSTD_")) return ioError(cause, `unpacking ${subject}`);
  return new StoreError("ERR_STORE_MALFORMED", {
    message: `${subject} cannot be decompressed (${code})`,
    hint: "the archive is damaged or cut; save the image again",
    cause,
  });
}
