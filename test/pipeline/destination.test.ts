import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage, type FixtureImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import { jweWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import { mediaTypes, serializeJson, type Descriptor, type ImageManifest } from "../../src/oci/index.ts";
import { decryptImage, encryptImage, parseLayerChoice, rewrapImage, type EncryptRequest } from "../../src/pipeline/index.ts";
import { openRegistry } from "../../src/registry/index.ts";
import { serveRegistry } from "../../src/registry-server/index.ts";
import { bytesStream, memoryStore, openLayout, readManifest, type ContentStore } from "../../src/store/index.ts";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrapper = jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });
const unwrapper = privateKeyUnwrapper([parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }))]);
const code = (expected: string) => expect.objectContaining({ code: expected });

function image(): Promise<FixtureImage> {
  return makeImage({
    layers: ["one", "two"].map((name) => ({ entries: [{ kind: "file", path: name, content: Buffer.from(name.repeat(1000)) }] })),
  });
}

function encrypt(from: ContentStore, root: Descriptor, to: ContentStore, more: Partial<EncryptRequest> = {}) {
  return encryptImage({
    from,
    root,
    to: { store: to, reference: "sealed" },
    cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
    wrappers: [wrapper],
    ...more,
  });
}

/** The store, with some of what it does done otherwise. */
function altered(store: ContentStore, change: Partial<ContentStore>): ContentStore {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(change, name) ?? Reflect.get(target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

describe("the destination", () => {
  it.each([
    ["loses the configuration", (to: ContentStore) => altered(to, { exists: async (target) => !target.mediaType.includes("config") })],
    ["loses a layer", (to: ContentStore) => altered(to, { exists: async (target) => !target.mediaType.includes("layer") })],
  ])("that %s gets no name", async (_, broken) => {
    const [from, to, made] = [memoryStore(), memoryStore(), await image()];
    await pushImage(from, made, "app");
    await expect(encrypt(from, made.descriptor, broken(to))).rejects.toThrow(code("ERR_POSTCONDITION"));
    expect(await to.tags()).toEqual([]);
  });

  it.each([
    ["loses a manifest that it took", { kind: "respond", status: 404 }, "manifests/sha256:*"],
    ["changes a manifest that it took", { kind: "flip", at: 20 }, "manifests/sha256:*"],
    ["moves no name", { kind: "respond", status: 404 }, "manifests/sealed"],
  ] as const)("that %s is found out, whatever the client remembers", async (_, action, path) => {
    const registry = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
    try {
      const to = openRegistry({ host: registry.address, repository: "app" });
      const [from, made] = [memoryStore(), await image()];
      await pushImage(from, made, "app");
      await encrypt(from, made.descriptor, to);
      registry.addFault({ match: { method: "GET", path: `/v2/app/${path}`, count: "all" }, do: [action] });
      await expect(encrypt(from, made.descriptor, to)).rejects.toThrow(code("ERR_POSTCONDITION"));
      await to.close();
    } finally {
      await registry.close();
    }
  });

  it("that acknowledges a name and does not move it is found out", async () => {
    const [from, to, made] = [memoryStore(), memoryStore(), await image()];
    await pushImage(from, made, "app");
    await pushImage(to, made, "sealed");
    const stubborn = altered(to, { tag: () => Promise.resolve() });
    await expect(encrypt(from, made.descriptor, stubborn)).rejects.toThrow(code("ERR_POSTCONDITION"));
  });
});

describe("a foreign layer", () => {
  const elsewhere = digestOf(Buffer.from("elsewhere"));

  /** An image whose second layer is named by URL, and is not in the source. */
  async function withForeign(from: ContentStore, mediaType: string): Promise<Descriptor> {
    const made = await image();
    await pushImage(from, made, "app");
    const { manifest } = await readManifest(from, made.descriptor);
    const [first, second] = manifest.layers;
    if (first === undefined || second === undefined) throw new Error("no layers");
    const foreign = { ...second, mediaType, digest: elsewhere, urls: ["https://elsewhere.example/layer"] };
    const changed: ImageManifest = { ...manifest, layers: [first, foreign] };
    const bytes = serializeJson(changed);
    const root = { mediaType: mediaTypes.manifest, digest: digestOf(bytes), size: bytes.length };
    await from.push(root, async () => bytesStream(bytes));
    return root;
  }

  const types = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
  ];

  it.each(types)("of type %s is never left plain unasked", async (type) => {
    const from = memoryStore();
    const root = await withForeign(from, type);
    for (const mode of ["plan", "write"] as const)
      await expect(encrypt(from, root, memoryStore(), { mode })).rejects.toThrow(code("ERR_LAYER_FOREIGN"));
  });

  it.each(types)(
    "of type %s stays where it is when it was not chosen, and the report says so, also through rewrap and decrypt",
    async (type) => {
      const [from, to] = [memoryStore(), memoryStore()];
      const root = await withForeign(from, type);
      const { layers } = await encrypt(from, root, to, { layers: parseLayerChoice(["0"]) });
      expect(layers.map(({ outcome, reason }) => [outcome, reason])).toEqual([
        ["encrypted", undefined],
        ["kept", "not chosen, plain at its own URL"],
      ]);
      const other = memoryStore();
      const sealed = await to.resolve("sealed");
      await rewrapImage({ from: to, root: sealed, to: { store: other, reference: "new" }, add: [wrapper], unwrappers: [unwrapper] });
      const target = memoryStore();
      await decryptImage({
        from: other,
        root: await other.resolve("new"),
        to: { store: target, reference: "open" },
        unwrappers: [unwrapper],
      });
      const { manifest } = await readManifest(target, await target.resolve("open"));
      expect(manifest.layers.map(({ digest }) => digest)[1]).toBe(elsewhere);
    },
  );
});

describe("convergent encryption", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "ociseal-convergent-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("never lets a derived key meet bytes that are not its digest's", async () => {
    const made = await image();
    const from = await openLayout({ path: join(folder, "source"), mode: "write", durability: "none" });
    await pushImage(from, made, "app");
    const { manifest } = await readManifest(from, made.descriptor);
    for (const layer of manifest.layers) await writeFile(from.localPath(layer) ?? "", randomBytes(layer.size));
    const convergentSecret = randomBytes(32);
    // Both ways through: from file to file, and as a stream.
    const to = await openLayout({ path: join(folder, "target"), mode: "write", durability: "none" });
    let staged = 0;
    const watched = altered(to, {
      stageBlob: () => {
        staged += 1;
        return to.stageBlob();
      },
    } as Partial<ContentStore>);
    await expect(encrypt(from, made.descriptor, watched, { convergentSecret })).rejects.toThrow(code("ERR_CONTENT_DIGEST_MISMATCH"));
    expect(staged).toBe(0);
    let taken = 0;
    const memory = memoryStore();
    const counting = altered(memory, {
      ingest: (stream, request) => {
        taken += 1;
        return memory.ingest(stream, request);
      },
    });
    await expect(encrypt(from, made.descriptor, counting, { convergentSecret })).rejects.toThrow(code("ERR_CONTENT_DIGEST_MISMATCH"));
    expect(taken).toBe(0);
    await to.close();
    await from.close();
  });
});
