import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { digestOf, type ByteStream, type Digest } from "../../src/bytes/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import type { BlobSource, ContentWriter } from "../../src/store/index.ts";

/** Content with its descriptor and a source that can be opened again. */
export interface Content {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly source: BlobSource;
}

export function contentOf(bytes: Buffer, mediaType: string): Content {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  return { descriptor, bytes, source: () => Promise.resolve(streamOf(bytes)) };
}

export function randomBlob(size: number): Content {
  return contentOf(randomBytes(size), mediaTypes.layerTarGzip);
}

/** A stream in chunks of 64 KiB, as files give. */
export function streamOf(bytes: Buffer): ByteStream {
  const pieces = function* () {
    for (let i = 0; i < bytes.length; i += 65_536) yield bytes.subarray(i, i + 65_536);
  };
  return Readable.from(pieces(), { objectMode: false });
}

export function manifestOf(config: Content, layers: readonly Content[], extra: Readonly<Record<string, unknown>> = {}): Content {
  const document = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: config.descriptor,
    layers: layers.map(({ descriptor }) => descriptor),
    ...extra,
  };
  return contentOf(serializeJson(document), mediaTypes.manifest);
}

export const emptyConfig = contentOf(Buffer.from("{}"), mediaTypes.empty);

/** An artifact that refers to a subject, told apart by `note`. */
export function referrerOf(subject: Descriptor, note: string, artifactType = "application/vnd.test.signature"): Content {
  return manifestOf(emptyConfig, [], { artifactType, subject, annotations: { note } });
}

export async function pushContent(store: ContentWriter, ...contents: readonly Content[]): Promise<void> {
  for (const { descriptor, source } of contents) await store.push(descriptor, source);
}

export async function readAll(stream: ByteStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export const absentDigest: Digest = `sha256:${"0".repeat(64)}`;
