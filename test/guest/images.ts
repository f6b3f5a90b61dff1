import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { generateKeyPairSync } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach } from "vitest";
import { compose, digestOf } from "../../src/bytes/index.ts";
import type { CipherName } from "../../src/cipher/index.ts";
import { brokerUnwrapper, kbsWrapper, type KeyUnwrapper } from "../../src/keywrap/index.ts";
import { sealLayer } from "../../src/layer/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { loadSigner, signImage, type KeySigner } from "../../src/signing/index.ts";
import { bytesStream, memoryStore, type ContentReader, type ContentStore } from "../../src/store/index.ts";

/** An empty folder per test, removed after it, whatever modes an image gave its directories. */
export function testFolder(): { path(...parts: string[]): string } {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "guest-"));
  });
  afterEach(() => {
    if (process.geteuid?.() !== 0) unlock(folder);
    rmSync(folder, { recursive: true, force: true, maxRetries: 2 });
  });
  return { path: (...parts) => join(folder, ...parts) };
}

function unlock(folder: string): void {
  chmodSync(folder, 0o700);
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: "buffer" })) {
    if (entry.isDirectory()) unlock(join(folder, entry.name.toString("latin1")));
  }
}

export async function put(store: ContentStore, mediaType: string, bytes: Buffer): Promise<Descriptor> {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(descriptor, async () => bytesStream(bytes));
  return descriptor;
}

export type Compression = "none" | "gzip" | "zstd";

const layerTypes = { none: mediaTypes.layerTar, gzip: mediaTypes.layerTarGzip, zstd: mediaTypes.layerTarZstd };

export function compressed(tar: Buffer, compression: Compression): Buffer {
  switch (compression) {
    case "none":
      return tar;
    case "gzip":
      return gzipSync(tar, { level: 1 });
    case "zstd":
      return zstdCompressSync(tar);
  }
}

export interface ImagePlan {
  readonly layers: readonly Buffer[];
  readonly compression?: Compression;
  /** A layer's stored form, where it is not what `compression` makes of it. */
  readonly stored?: (tar: Buffer) => Buffer;
  /** Members of the configuration beside architecture, os and rootfs. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly diffIds?: readonly string[];
  /** Changes a layer's descriptor and content, as sealing does. */
  readonly seal?: (layer: Descriptor, bytes: Buffer, store: ContentStore) => Promise<Descriptor>;
}

export interface TestImage {
  readonly store: ContentStore;
  readonly root: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** An image of the given tar streams in memory, tagged `latest`. */
export async function image(plan: ImagePlan): Promise<TestImage> {
  const store = memoryStore();
  const layers: Descriptor[] = [];
  const compression = plan.compression ?? "none";
  for (const tar of plan.layers) {
    const bytes = plan.stored?.(tar) ?? compressed(tar, compression);
    const plain: Descriptor = { mediaType: layerTypes[compression], digest: digestOf(bytes), size: bytes.length };
    layers.push(plan.seal === undefined ? await put(store, plain.mediaType, bytes) : await plan.seal(plain, bytes, store));
  }
  const diffIds = plan.diffIds ?? plan.layers.map((tar) => digestOf(tar));
  const config = await put(
    store,
    mediaTypes.config,
    serializeJson({ architecture: "amd64", os: "linux", ...plan.config, rootfs: { type: "layers", diff_ids: diffIds } }),
  );
  const root = await put(store, mediaTypes.manifest, serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers }));
  await store.tag(root, "latest");
  return { store, root, layers };
}

const kek = Buffer.alloc(32, 7);
export const kbsUri = "kbs:///default/key/test";

/** Seals layers for a key broker that counts how often it is asked. */
export function broker(): {
  readonly asked: string[];
  readonly unwrapper: KeyUnwrapper;
  seal(cipher: CipherName): NonNullable<ImagePlan["seal"]>;
} {
  const asked: string[] = [];
  return {
    asked,
    unwrapper: brokerUnwrapper({
      name: "test KBS",
      reach: "remote",
      broker: {
        async fetchKey(uri) {
          asked.push(uri);
          return kek;
        },
      },
    }),
    seal: (cipher) => async (layer, bytes, store) => {
      const sealing = await sealLayer({ layer, cipher, wrappers: [kbsWrapper({ uri: kbsUri, kek })] });
      const address = await store.ingest(compose(bytesStream(bytes), sealing.stage));
      return await sealing.finish(address);
    },
  };
}

export async function signer(): Promise<KeySigner> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return await loadSigner({ pem: privateKey.export({ format: "pem", type: "pkcs8" }), source: "test key" });
}

export async function sign(store: ContentStore, target: Descriptor, by: KeySigner): Promise<void> {
  await signImage({ store, target, reference: "registry.example/app", signer: by, format: "both", now: new Date(0) });
}

/** A store whose `fetch` is another. */
export function readerOf(store: ContentStore, fetch: ContentReader["fetch"]): ContentReader {
  return {
    name: store.name,
    resolve: (reference, options) => store.resolve(reference, options),
    fetch,
    exists: (target, options) => store.exists(target, options),
    referrers: (subject, filter) => store.referrers(subject, filter),
    tags: (options) => store.tags(options),
    localPath: () => undefined,
    close: () => store.close(),
  };
}
