import { generateKeyPairSync, randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage, type FixtureImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import type { CipherName } from "../../src/cipher/index.ts";
import { ToolError } from "../../src/errors/index.ts";
import { jweWrapper, kbsWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import { serializeJson, type Annotations, type Descriptor, type ImageManifest } from "../../src/oci/index.ts";
import { decryptImage, describeImage, encryptImage, lintImage, rewrapImage } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, readBlob, readManifest, type ContentStore } from "../../src/store/index.ts";

/*
 * Whoever has the registry can write any manifest and any blob under a digest that fits. Whatever they write, opening the
 * image gives the image that was encrypted, or ends in an error of ours with no name moved.
 */

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrapper = jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });
const unwrappers = [privateKeyUnwrapper([parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }))])];
const wrappers = [wrapper, kbsWrapper({ uri: "kbs:///default/key/one", kek: randomBytes(32) })];
const prefix = "org.opencontainers.image.enc.";
const names = ["pubopts", "keys.jwe", "keys.provider.attestation-agent"].map((name) => `${prefix}${name}`);

interface Sealed {
  readonly store: ContentStore;
  readonly root: Descriptor;
  readonly manifest: ImageManifest;
  readonly blobs: readonly Buffer[];
}

let plain: FixtureImage;
const sealed = new Map<CipherName, Sealed>();
const ciphers = ["AES_256_GCM_C2SP_CHUNKED_V1", "AES_256_CTR_HMAC_SHA256"] as const;

beforeAll(async () => {
  plain = await makeImage({
    layers: [40_000, 300, 17_000].map((size, i) => ({ entries: [{ kind: "file", path: `file${i}`, content: randomBytes(size) }] })),
  });
  for (const cipher of ciphers) {
    const [from, store] = [memoryStore(), memoryStore()];
    await pushImage(from, plain, "app");
    await encryptImage({ from, root: plain.descriptor, to: { store, reference: "sealed" }, cipher, wrappers });
    const root = await store.resolve("sealed");
    const { manifest } = await readManifest(store, root);
    const blobs = await Promise.all(manifest.layers.map((layer) => readBlob(store, layer, { maxBytes: 1 << 20, subject: "layer" })));
    sealed.set(cipher, { store, root, manifest, blobs: blobs.map((blob) => Buffer.from(blob)) });
  }
});

/** One change to what lies in the registry. */
interface Change {
  readonly kind: "flip" | "cut" | "append" | "drop" | "insert" | "swap" | "copy" | "remove" | "rename" | "duplicate";
  /** `mark`: everything that says that a layer is encrypted goes. */
  readonly where: "annotation" | "blob" | "layers" | "mediaType" | "size" | "mark";
  readonly layer: number;
  readonly other: number;
  readonly name: number;
  readonly at: number;
  readonly byte: number;
}

const changes: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom("flip", "cut", "append", "drop", "insert", "swap", "copy", "remove", "rename", "duplicate"),
  where: fc.constantFrom("annotation", "annotation", "annotation", "blob", "layers", "mediaType", "size", "mark"),
  layer: fc.nat(2),
  other: fc.nat(2),
  name: fc.nat(names.length - 1),
  at: fc.nat(1 << 20),
  byte: fc.nat(255),
});

const alphabet = 'Az09+/=_-, {"\\';

function changedText(text: string, { kind, at, byte }: Change): string {
  const i = text.length === 0 ? 0 : at % text.length;
  const letter = alphabet[byte % alphabet.length] ?? "A";
  switch (kind) {
    case "flip":
      return text.slice(0, i) + letter + text.slice(i + 1);
    case "cut":
      return text.slice(0, i);
    case "append":
      return text + letter;
    case "drop":
      return text.slice(0, i) + text.slice(i + 1);
    case "insert":
      return text.slice(0, i) + letter + text.slice(i);
    case "duplicate":
      return `${text},${text}`;
    case "swap":
    case "copy":
    case "remove":
    case "rename":
      return text.slice(i) + text.slice(0, i);
  }
}

function changedAnnotations(all: readonly Descriptor[], change: Change): Annotations {
  const own = { ...all[change.layer]?.annotations };
  const others = all[change.other]?.annotations ?? {};
  const name = names[change.name] ?? "";
  switch (change.kind) {
    case "copy":
      return { ...own, [name]: others[name] ?? "" };
    case "swap":
      return others;
    case "remove":
      return Object.fromEntries(Object.entries(own).filter(([key]) => key !== name));
    case "rename":
      return Object.fromEntries(
        Object.entries(own).map(([key, text]) => [key === name ? (names[change.byte % names.length] ?? "") : key, text]),
      );
    case "flip":
    case "cut":
    case "append":
    case "drop":
    case "insert":
    case "duplicate":
      return { ...own, [name]: changedText(own[name] ?? "", change) };
  }
}

function changedBlob(blob: Buffer, { kind, at, byte }: Change): Buffer {
  const i = at % blob.length;
  switch (kind) {
    case "cut":
      return blob.subarray(0, i);
    case "append":
      return Buffer.concat([blob, Buffer.of(byte)]);
    case "drop":
      return Buffer.concat([blob.subarray(0, i), blob.subarray(i + 1)]);
    case "insert":
      return Buffer.concat([blob.subarray(0, i), Buffer.of(byte), blob.subarray(i)]);
    case "duplicate":
      return Buffer.concat([blob, blob]);
    case "swap":
      return Buffer.concat([blob.subarray(i), blob.subarray(0, i)]);
    case "flip":
    case "copy":
    case "remove":
    case "rename": {
      const flipped = Buffer.from(blob);
      flipped[i] = (flipped[i] ?? 0) ^ (byte | 1);
      return flipped;
    }
  }
}

const mediaTypes = ["", "+encrypted", "+gzip", "+zstd+encrypted", "+gzip+encrypted+encrypted"].map(
  (end) => `application/vnd.oci.image.layer.v1.tar${end}`,
);

/** What an attacker with the registry makes of the image; digests of what they wrote fit. */
async function attack(cipher: CipherName, list: readonly Change[]): Promise<{ readonly store: ContentStore; readonly root: Descriptor }> {
  const { manifest, blobs: originals, root: sealedRoot } = sealed.get(cipher) ?? ({ manifest: { layers: [] }, blobs: [] } as never);
  const store = memoryStore("memory:attacked");
  let layers: readonly Descriptor[] = manifest.layers;
  let blobs: readonly Buffer[] = originals;
  for (const change of list) {
    const { where, kind, layer: at, other } = change;
    if (where === "layers") {
      const order = [...layers.keys()];
      if (kind === "drop" || kind === "remove" || kind === "cut") order.splice(at, 1);
      else if (kind === "duplicate" || kind === "append" || kind === "insert") order.splice(other, 0, at);
      else if (kind === "copy") order[at] = other;
      else [order[at], order[other]] = [order[other] ?? 0, order[at] ?? 0];
      [layers, blobs] = [order.flatMap((i) => layers[i] ?? []), order.flatMap((i) => blobs[i] ?? [])];
      continue;
    }
    const [layer, blob] = [layers[at], blobs[at]];
    if (layer === undefined || blob === undefined) continue;
    const put = (changed: Partial<Descriptor>, bytes = blob): void => {
      layers = layers.with(at, { ...layer, ...changed });
      blobs = blobs.with(at, bytes);
    };
    if (where === "annotation") put({ annotations: changedAnnotations(layers, change) });
    else if (where === "mark") put({ annotations: {}, mediaType: layer.mediaType.replace("+encrypted", "") });
    else if (where === "mediaType") put({ mediaType: mediaTypes[change.byte % mediaTypes.length] ?? "" });
    else if (where === "size") put({ size: Math.max(0, layer.size + (change.byte - 128)) });
    else {
      const bytes = changedBlob(blob, change);
      put({ digest: digestOf(bytes), size: bytes.length }, bytes);
    }
  }
  for (const [i, layer] of layers.entries()) {
    const bytes = blobs[i] ?? Buffer.alloc(0);
    const honest = { ...layer, size: bytes.length };
    await store.push(honest, async () => bytesStream(bytes));
  }
  const { config } = manifest;
  const source = sealed.get(cipher)?.store ?? store;
  await store.push(config, () => source.fetch(config));
  const bytes = serializeJson({ ...manifest, layers });
  const root = { mediaType: sealedRoot.mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(root, async () => bytesStream(bytes));
  return { store, root };
}

/** The code of ours, or what else came. */
async function endOf(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "none";
  } catch (error) {
    return error instanceof ToolError && error.category !== "internal" ? error.code : `not ours: ${String(error)}`;
  }
}

describe.each(ciphers)("an image of %s that somebody changed", (cipher) => {
  it("opens to what it was, or not at all", { timeout: 120_000 }, async () => {
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(changes, { minLength: 1, maxLength: 3 }), async (list) => {
        const { store, root } = await attack(cipher, list);
        const target = memoryStore();
        const code = await endOf(() => decryptImage({ from: store, root, to: { store: target, reference: "open" }, unwrappers }));
        seen.add(code);
        expect(code).toMatch(/^(?:none|ERR_[A-Z_]+)$/);
        // What an attacker adds beside the keys changes nothing; what opens is what was encrypted.
        const opened = (await target.tags()).length === 0 ? [] : (await readManifest(target, await target.resolve("open"))).manifest.layers;
        expect(opened.map(({ digest }) => digest)).toEqual(code === "none" ? plainLayers() : []);
        // Nothing else falls over it either, and a plain description never throws for what an image holds.
        for (const look of [
          () => describeImage({ store, root }),
          () => lintImage({ store, root, profile: "coco" }),
          () => rewrapImage({ from: store, root, to: { store, reference: "new" }, unwrappers, add: [wrapper] }),
        ])
          expect(await endOf(look)).toMatch(/^(?:none|ERR_[A-Z_]+)$/);
      }),
      { numRuns: 250 },
    );
    // It looked at something: some changes are harmless, and the others end in many ways.
    expect(seen.size).toBeGreaterThan(5);
  });
});

function plainLayers(): readonly string[] {
  return plain.contents.filter(({ descriptor }) => descriptor.mediaType.includes("layer")).map(({ descriptor }) => descriptor.digest);
}

it("an image for more recipients than readers take is refused before anything is written", async () => {
  const [from, to] = [memoryStore(), memoryStore()];
  const one = await makeImage({ layers: [{ entries: [{ kind: "file", path: "a", content: "b" }] }] });
  await pushImage(from, one, "app");
  const request = { from, root: one.descriptor, cipher: "AES_256_GCM_C2SP_CHUNKED_V1" } as const;
  const crowd = (count: number) =>
    encryptImage({ ...request, to: { store: to, reference: "crowd" }, wrappers: Array.from({ length: count }, () => wrapper) });
  expect(await endOf(() => crowd(1001))).toBe("ERR_LAYER_TOO_MANY_RECIPIENTS");
  expect(await endOf(() => crowd(10_000))).toBe("ERR_MANIFEST_TOO_LARGE");
  expect(await to.tags()).toEqual([]);
  await encryptImage({ ...request, to: { store: to, reference: "few" }, wrappers: [wrapper] });
  const add = Array.from({ length: 1001 }, () => wrapper);
  const root = await to.resolve("few");
  expect(await endOf(() => rewrapImage({ from: to, root, to: { store: to, reference: "crowd" }, unwrappers, add }))).toBe(
    "ERR_LAYER_TOO_MANY_RECIPIENTS",
  );
});
