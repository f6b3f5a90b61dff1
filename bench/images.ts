import { createHash, randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";

/** Size of one stored deflate block, the largest that the format has. Source: RFC 1951 section 3.2.4. */
const storedBlock = 65_535;

/**
 * Writes an OCI layout with incompressible layers in a gzip frame, one file each. Deterministic in shape, random in
 * content; made without compressing, so that gigabytes take seconds.
 */
export function writeSyntheticLayout(folder: string, spec: { readonly layers: number; readonly mib: number }): void {
  const blobs = join(folder, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const put = (document: unknown): { readonly digest: string; readonly size: number } => {
    const bytes = Buffer.from(JSON.stringify(document));
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const layers = Array.from({ length: spec.layers }, (_, i) => writeLayer(blobs, i, spec.mib * 1024 * 1024));
  const config = put({
    architecture: "amd64",
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = put({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
    layers: layers.map(({ digest, size }) => ({ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size })),
  });
  const entry = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    ...manifest,
    annotations: { "org.opencontainers.image.ref.name": "app" },
  };
  writeFileSync(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  writeFileSync(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
}

function writeLayer(
  folder: string,
  number: number,
  size: number,
): { readonly digest: string; readonly size: number; readonly diffId: string } {
  const temporary = join(folder, "writing");
  const file = openSync(temporary, "w");
  const blobHash = createHash("sha256");
  const tarHash = createHash("sha256");
  let written = 0;
  let checksum = 0;
  let tarSize = 0;
  const emit = (bytes: Uint8Array): void => {
    blobHash.update(bytes);
    written += writeSync(file, bytes);
  };
  let pending = Buffer.alloc(0);
  const writeBlock = (block: Uint8Array, final: 0 | 1): void => {
    const header = Buffer.alloc(5);
    header.writeUInt8(final, 0);
    header.writeUInt16LE(block.length, 1);
    header.writeUInt16LE(~block.length & 0xffff, 3);
    emit(header);
    emit(block);
  };
  const tar = (bytes: Uint8Array): void => {
    tarHash.update(bytes);
    checksum = crc32(bytes, checksum);
    tarSize += bytes.length;
    pending = Buffer.concat([pending, bytes]);
    for (; pending.length > storedBlock; pending = pending.subarray(storedBlock)) writeBlock(pending.subarray(0, storedBlock), 0);
  };
  emit(Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]));
  tar(tarHeader(`file-${number}`, size));
  const block = randomBytes(1 << 20);
  for (let at = 0; at < size; at += block.length) {
    block.writeUInt32LE(at / block.length, 0);
    tar(block.subarray(0, Math.min(block.length, size - at)));
  }
  tar(Buffer.alloc(1024));
  writeBlock(pending, 1);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(checksum >>> 0, 0);
  trailer.writeUInt32LE(tarSize % 2 ** 32, 4);
  emit(trailer);
  closeSync(file);
  const hex = blobHash.digest("hex");
  renameSync(temporary, join(folder, hex));
  return { digest: `sha256:${hex}`, size: written, diffId: `sha256:${tarHash.digest("hex")}` };
}

/** A ustar header of one regular file. */
function tarHeader(name: string, size: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write("0000644\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write("0", 156);
  header.write("ustar\u000000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
