/** Writes tar streams byte by byte, also wrong ones: the hostile corpus needs what no library would write. */

export interface RawEntry {
  readonly name?: string | Buffer;
  readonly type?: string;
  readonly data?: string | Buffer;
  /** The size field; the data's length unless told. */
  readonly size?: number | string | Buffer;
  readonly mode?: number;
  readonly uid?: number | Buffer;
  readonly gid?: number | Buffer;
  readonly mtime?: number | Buffer;
  readonly link?: string | Buffer;
  readonly prefix?: string;
  readonly magic?: "ustar" | "gnu" | "v7" | Buffer;
  readonly device?: readonly [number, number];
  /** Bytes to write into the header before its checksum, by offset. */
  readonly patch?: Readonly<Record<number, Buffer | string>>;
  /** Adds to the right checksum. */
  readonly checksumError?: number;
}

const magics = { ustar: Buffer.from("ustar\x0000"), gnu: Buffer.from("ustar  \0"), v7: Buffer.alloc(8) };

export function header(entry: RawEntry): Buffer {
  const block = Buffer.alloc(512);
  const data = Buffer.from(entry.data ?? "");
  block.set(bytesOf(entry.name ?? "file").subarray(0, 100), 0);
  octal(block, 100, 8, entry.mode ?? (entry.type === "5" ? 0o755 : 0o644));
  number(block, 108, 8, entry.uid ?? process.getuid?.() ?? 0);
  number(block, 116, 8, entry.gid ?? process.getgid?.() ?? 0);
  const size = entry.size ?? data.length;
  if (typeof size === "string") block.write(size, 124, "latin1");
  else number(block, 124, 12, size);
  number(block, 136, 12, entry.mtime ?? 1_700_000_000);
  block.write(entry.type ?? "0", 156, 1, "latin1");
  block.set(bytesOf(entry.link ?? "").subarray(0, 100), 157);
  const magic = entry.magic ?? "ustar";
  block.set(typeof magic === "string" ? magics[magic] : magic, 257);
  if (entry.device !== undefined) {
    octal(block, 329, 8, entry.device[0]);
    octal(block, 337, 8, entry.device[1]);
  }
  if (entry.prefix !== undefined) block.write(entry.prefix, 345, "latin1");
  for (const [offset, patch] of Object.entries(entry.patch ?? {})) block.set(bytesOf(patch), Number(offset));
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0) + (entry.checksumError ?? 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

export function entry(raw: RawEntry): Buffer {
  const data = Buffer.from(raw.data ?? "");
  return Buffer.concat([header(raw), padded(data)]);
}

/** PAX records, each of the right length unless it is raw bytes already. */
export function paxBody(records: readonly (readonly [string, string | Buffer] | Buffer)[]): Buffer {
  return Buffer.concat(
    records.map((record) => {
      if (Buffer.isBuffer(record)) return record;
      const rest = Buffer.concat([Buffer.from(` ${record[0]}=`), Buffer.from(record[1]), Buffer.from("\n")]);
      let length = rest.length + 1;
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
      return Buffer.concat([Buffer.from(String(length)), rest]);
    }),
  );
}

export function pax(records: readonly (readonly [string, string | Buffer] | Buffer)[], type: "x" | "g" = "x"): Buffer {
  return entry({ name: "pax", type, data: paxBody(records) });
}

export const endMarker = Buffer.alloc(1024);

export function tar(...parts: readonly (RawEntry | Buffer)[]): Buffer {
  return Buffer.concat([...parts.map((part) => (Buffer.isBuffer(part) ? part : entry(part))), endMarker]);
}

/** Big-endian with the first bit set; negative as two's complement. */
export function base256(value: bigint, length: number): Buffer {
  const field = Buffer.alloc(length);
  let rest = BigInt.asUintN(8 * length, value);
  for (let i = length - 1; i >= 0; i -= 1) {
    field[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  field[0] = (field[0] ?? 0) | 0x80;
  return field;
}

export function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

function octal(block: Buffer, at: number, length: number, value: number): void {
  block.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
}

function number(block: Buffer, at: number, length: number, value: number | Buffer): void {
  if (typeof value === "number") octal(block, at, length, value);
  else block.set(value, at);
}

function bytesOf(text: string | Buffer): Buffer {
  return typeof text === "string" ? Buffer.from(text, "latin1") : text;
}
