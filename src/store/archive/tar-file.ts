import { constants, open, type FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import type { ByteStream } from "../../bytes/index.ts";
import type { FetchOptions } from "../content-store.ts";
import { ioError, StoreError } from "../errors.ts";
import { malformedTar, parsePax, parseTarHeader, tarBlock } from "./tar-header.ts";

/** Bounds on an archive that somebody else made. */
export const tarLimits = { maxMembers: 500_000, maxExtendedHeader: 1024 * 1024, maxNameLength: 4096 } as const;

const readSize = 256 * 1024;

/** Where a member's content lies in the file. */
export interface TarFileMember {
  readonly kind: "file";
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** A regular file, or a hard or symbolic link: another name of another member. */
export type TarMember = TarFileMember | { readonly kind: "link"; readonly name: string; readonly target: string };

/**
 * An uncompressed tar file whose members are read where they lie, in any order and at once.
 *
 * Opening reads the headers only; nothing is ever written to a path that an archive names. tar-stream reads from front
 * to back, which would mean to unpack everything first.
 */
export class TarFile {
  readonly #handle: FileHandle;
  readonly #members: ReadonlyMap<string, readonly TarMember[]>;
  readonly #subject: string;

  private constructor(handle: FileHandle, members: ReadonlyMap<string, readonly TarMember[]>, subject: string) {
    this.#handle = handle;
    this.#members = members;
    this.#subject = subject;
  }

  /** Throws `ERR_STORE_NOT_FOUND`, `ERR_STORE_MALFORMED`, `ERR_STORE_LIMIT`, `ERR_STORE_IO`. */
  static async open(path: string, subject: string): Promise<TarFile> {
    const handle = await openArchive(path, subject);
    try {
      const { size } = await handle.stat();
      return new TarFile(handle, await readMembers(handle, size, subject), subject);
    } catch (cause) {
      await handle.close();
      throw ioError(cause, `reading ${subject}`);
    }
  }

  /** Members by name, without `./` in front. */
  names(): Iterable<string> {
    return this.#members.keys();
  }

  /**
   * A regular file, found through at most one link inside the archive. `undefined` when it is not there. Throws
   * `ERR_STORE_MALFORMED` when the name is there twice: readers disagree which one counts.
   */
  find(name: string): TarFileMember | undefined {
    const member = this.#only(name);
    if (member?.kind !== "link") return member;
    const target = this.#only(member.target);
    return target?.kind === "file" ? target : undefined;
  }

  #only(name: string): TarMember | undefined {
    const [first, second] = this.#members.get(name) ?? [];
    if (second !== undefined) throw malformedTar(`${this.#subject} has ${JSON.stringify(name.slice(0, 200))} more than once`);
    return first;
  }

  /** A small member whole. Throws `ERR_STORE_LIMIT`. */
  async read(member: TarFileMember, maxBytes: number): Promise<Buffer> {
    if (member.size > maxBytes) {
      throw new StoreError("ERR_STORE_LIMIT", {
        message: `${member.name} of ${this.#subject} has ${member.size} bytes, more than the limit of ${maxBytes} for its kind`,
      });
    }
    return readAt(this.#handle, member.offset, member.size, this.#subject);
  }

  /** A member's bytes, or a part of them. */
  stream(member: TarFileMember, { range }: FetchOptions): ByteStream {
    const start = member.offset + (range?.start ?? 0);
    const end = member.offset + Math.min(range?.end ?? member.size, member.size);
    return Readable.from(readRange(this.#handle, start, end, this.#subject), { objectMode: true, highWaterMark: 4 });
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

async function openArchive(path: string, subject: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      throw new StoreError("ERR_STORE_NOT_FOUND", { message: `${subject} does not exist`, hint: "check the path", cause });
    }
    throw ioError(cause, `opening ${subject}`);
  });
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new StoreError("ERR_STORE_MALFORMED", { message: `${subject} is not a regular file`, hint: "save it to a file first" });
}

async function readMembers(handle: FileHandle, fileSize: number, subject: string): Promise<ReadonlyMap<string, readonly TarMember[]>> {
  const members = new Map<string, TarMember[]>();
  let count = 0;
  let next: { readonly path?: string | undefined; readonly link?: string | undefined; readonly size?: number | undefined } = {};
  for (let at = 0; at + tarBlock <= fileSize;) {
    const header = parseTarHeader(await readAt(handle, at, tarBlock, subject), subject);
    if (header === undefined) break;
    count += 1;
    if (count > tarLimits.maxMembers) throw tooMany(subject);
    const isExtension = "xgLK".includes(header.type);
    const size = isExtension ? header.size : (next.size ?? header.size);
    const offset = at + tarBlock;
    if (offset + size > fileSize) throw malformedTar(`${subject} ends in the middle of a member`);
    at = offset + Math.ceil(size / tarBlock) * tarBlock;
    if (isExtension) {
      if (size > tarLimits.maxExtendedHeader) throw malformedTar(`${subject}: an extended header has ${size} bytes`);
      if (header.type !== "g") next = { ...next, ...extension(header.type, await readAt(handle, offset, size, subject), subject) };
      continue;
    }
    const member = toMember(header.type, memberName(next.path ?? header.name, subject), offset, size, next.link ?? header.linkName);
    next = {};
    if (member === undefined) continue;
    const same = members.get(member.name);
    if (same === undefined) members.set(member.name, [member]);
    else if (same.length < 2) same.push(member);
  }
  if (count === 0) throw malformedTar(`${subject} is empty or not a tar file`);
  return members;
}

function extension(
  type: string,
  bytes: Buffer,
  subject: string,
): { readonly path?: string; readonly link?: string; readonly size?: number } {
  const end = bytes.indexOf(0);
  const name = bytes.toString("utf8", 0, end < 0 ? bytes.length : end);
  if (type === "L") return { path: name };
  if (type === "K") return { link: name };
  const records = parsePax(bytes, subject);
  const path = records.get("path");
  const link = records.get("linkpath");
  const size = records.get("size");
  if (size !== undefined && !/^[0-9]{1,15}$/.test(size)) throw malformedTar(`${subject}: an extended header's size is not a number`);
  return {
    ...(path === undefined ? {} : { path }),
    ...(link === undefined ? {} : { link }),
    ...(size === undefined ? {} : { size: Number(size) }),
  };
}

/** Directories and special files are nothing to us; GNU's sparse files (`S`) are none that an image tool writes. */
function toMember(type: string, name: string, offset: number, size: number, linkName: string): TarMember | undefined {
  if (type === "0" || type === "\0" || type === "7") return { kind: "file", name, offset, size };
  if (type === "1") return { kind: "link", name, target: cleanName(linkName) };
  if (type === "2") return { kind: "link", name, target: cleanName(`${name.slice(0, name.lastIndexOf("/") + 1)}${linkName}`) };
  return undefined;
}

function memberName(name: string, subject: string): string {
  if (name.length > tarLimits.maxNameLength) throw malformedTar(`${subject}: a member's name has ${name.length} characters`);
  return cleanName(name);
}

/** Names are compared, never opened: `./a/../b` becomes `b`, and what leads out of the archive names nothing in it. */
function cleanName(name: string): string {
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return `outside the archive: ${name}`;
  }
  return parts.join("/");
}

async function readAt(handle: FileHandle, offset: number, size: number, subject: string): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size);
  for (let got = 0; got < size;) {
    const { bytesRead } = await handle.read(bytes, got, size - got, offset + got);
    if (bytesRead === 0) throw malformedTar(`${subject} is shorter than it was`);
    got += bytesRead;
  }
  return bytes;
}

/** A file stream would close the file that all members share. */
async function* readRange(handle: FileHandle, start: number, end: number, subject: string): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end;) {
    const size = Math.min(readSize, end - at);
    yield await readAt(handle, at, size, subject);
    at += size;
  }
}

function tooMany(subject: string): StoreError {
  return new StoreError("ERR_STORE_LIMIT", { message: `${subject} has more than ${tarLimits.maxMembers} members` });
}
