import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Digest } from "../../src/bytes/index.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { peer, type PeerName } from "../peers.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** An OCI layout in a folder, as small as can be: what layers need to meet real peers. */
export interface Layout {
  readonly folder: string;
  readonly layers: readonly Descriptor[];
}

export function blobPath(folder: string, digest: string): string {
  return join(folder, "blobs", "sha256", digest.slice("sha256:".length));
}

export function readBlob(folder: string, digest: string): Buffer {
  return readFileSync(blobPath(folder, digest));
}

export function addBlob(folder: string, bytes: Uint8Array): { readonly digest: Digest; readonly size: number } {
  const digest: Digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  mkdirSync(join(folder, "blobs", "sha256"), { recursive: true });
  writeFileSync(blobPath(folder, digest), bytes);
  return { digest, size: bytes.length };
}

/** A tar of one file, as the format wants it. */
export function tarOf(name: string, content: Uint8Array): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write("0000644\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write("0", 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return Buffer.concat([header, content, padding, Buffer.alloc(1024)]);
}

/** Writes an image of the given layers; diff_ids are those of the tars. */
export function writeImage(folder: string, layers: readonly Descriptor[], diffIds: readonly string[]): Layout {
  mkdirSync(folder, { recursive: true });
  const config = addBlob(
    folder,
    Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", config: {}, rootfs: { type: "layers", diff_ids: diffIds } })),
  );
  const manifest = addBlob(
    folder,
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: manifestType,
        config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
        layers,
      }),
    ),
  );
  const entry = { mediaType: manifestType, ...manifest, annotations: { "org.opencontainers.image.ref.name": "it" } };
  writeFileSync(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  writeFileSync(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  return { folder, layers };
}

export function readImage(folder: string): Layout {
  const index = JSON.parse(readFileSync(join(folder, "index.json"), "utf8")) as { manifests: Descriptor[] };
  const [entry] = index.manifests;
  if (entry === undefined) throw new Error(`${folder} holds no image`);
  const manifest = JSON.parse(readBlob(folder, entry.digest).toString()) as { layers: Descriptor[] };
  return { folder, layers: manifest.layers };
}

/** A plain image of gzipped layers that are some chunks long. */
export function plainImage(folder: string, contents: readonly Uint8Array[]): Layout & { readonly blobs: readonly Buffer[] } {
  const tars = contents.map((content, i) => tarOf(`file${i}`, content));
  const blobs = tars.map((tar) => gzipSync(tar));
  const layers = blobs.map((blob): Descriptor => ({ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", ...addBlob(folder, blob) }));
  const diffIds = tars.map((tar) => `sha256:${createHash("sha256").update(tar).digest("hex")}`);
  return { ...writeImage(folder, layers, diffIds), blobs };
}

/** Runs a peer's program; the outcome with its output. */
export function run(name: PeerName, ...args: readonly string[]): { readonly status: number; readonly output: string } {
  const program = peer(name);
  if (program === undefined) throw new Error(`${name} is not installed`);
  try {
    // The machine need not have a policy of image signatures.
    const policy = name.startsWith("skopeo") ? ["--insecure-policy"] : [];
    return { status: 0, output: execFileSync(program, [...policy, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }) };
  } catch (cause) {
    const { status, stderr } = cause as { status: number; stderr: string };
    return { status, output: stderr };
  }
}
