import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { makeImage, pushImage, type FixtureImage } from "../../registry-fixtures/index.ts";
import { encodedOf } from "../../src/bytes/index.ts";
import { jweWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { decryptImage, encryptImage } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, openDir, openLayout, readManifest, type ContentStore } from "../../src/store/index.ts";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrapper = jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });
const unwrapper = privateKeyUnwrapper([parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }))]);

const folder = mkdtempSync(join(tmpdir(), "ociseal-take-back-"));
const target = join(folder, "target");
let plain: FixtureImage;
let source: ContentStore;
let sealed: Descriptor;

beforeAll(async () => {
  const file = (path: string) => ({ entries: [{ kind: "file" as const, path, content: Buffer.from(path.repeat(100)) }] });
  plain = await makeImage({ layers: [file("first"), file("second"), file("third")] });
  const memory = memoryStore("memory:plain");
  await pushImage(memory, plain, "app");
  source = await openLayout({ path: join(folder, "sealed"), mode: "write", durability: "none" });
  const to = { store: source, reference: "app" };
  await encryptImage({ from: memory, root: plain.descriptor, to, cipher: "AES_256_GCM_C2SP_CHUNKED_V1", wrappers: [wrapper] });
  sealed = await source.resolve("app");
  const { manifest } = await readManifest(source, sealed, {});
  const path = join(folder, "sealed/blobs/sha256", encodedOf(manifest.layers[2]?.digest ?? "sha256:"));
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  writeFileSync(path, bytes);
});
beforeEach(() => rmSync(target, { recursive: true, force: true }));
afterAll(async () => {
  await source.close();
  rmSync(folder, { recursive: true });
});

/** One layer after the other, so that two are whole when the third turns out to be damaged. */
async function fail(to: ContentStore): Promise<void> {
  const request = { from: source, root: sealed, to: { store: to, reference: undefined }, unwrappers: [unwrapper], concurrency: 1 };
  await expect(decryptImage(request)).rejects.toMatchObject({ category: "integrity" });
  await to.close();
}

const open = {
  oci: () => openLayout({ path: target, mode: "write" }),
  dir: () => openDir({ path: target, mode: "write" }),
} as const;

describe.each(["oci", "dir"] as const)("a failed decryption to %s", (transport) => {
  it("leaves no folder where there was none", async () => {
    await fail(await open[transport]());
    expect(existsSync(target)).toBe(false);
  });

  it("leaves an empty folder empty", async () => {
    mkdirSync(target);
    await fail(await open[transport]());
    expect(readdirSync(target)).toEqual([]);
  });

  it("leaves the image that was there as it was", async () => {
    const before = await open[transport]();
    const { descriptor } = await makeImage({ layers: [{ entries: [{ kind: "file", path: "old", content: Buffer.from("old") }] }] }).then(
      async (old) => {
        await pushImage(before, old, transport === "oci" ? "old" : old.descriptor.digest);
        return old;
      },
    );
    await before.close();
    const names = new Set(readdirSync(target, { recursive: true, encoding: "utf8" }));
    await fail(await open[transport]());
    expect(new Set(readdirSync(target, { recursive: true, encoding: "utf8" }))).toEqual(names);
    const after = await open[transport]();
    expect((await after.resolve(undefined)).digest).toBe(descriptor.digest);
    await after.close();
  });
});

describe("what is taken back", () => {
  it("is not what was there before, nor what somebody else uses by now", async () => {
    const blobs = join(target, "blobs/sha256");
    const [first, second] = (await planned()).map(({ digest }) => encodedOf(digest));
    const before = await openLayout({ path: target, mode: "write" });
    const [mine] = plain.contents.filter(({ descriptor }) => descriptor.digest === `sha256:${first}`);
    await before.ingest(bytesStream(mine?.bytes ?? Buffer.alloc(0)));
    await before.close();
    const to = await openLayout({ path: target, mode: "write" });
    const beforeFailure = async (): Promise<void> => utimesSync(join(blobs, second ?? ""), 1_800_000_000, 1_800_000_000);
    const touching = new Proxy(to, {
      get: (store, name) => {
        if (name === "takeBack") return async () => beforeFailure().then(() => store.takeBack?.());
        const member: unknown = Reflect.get(store, name);
        return typeof member === "function" ? member.bind(store) : member;
      },
    });
    await fail(touching);
    expect(new Set(readdirSync(blobs))).toEqual(new Set([first, second]));
  });

  it("is an encrypted image too that could not be signed", async () => {
    const memory = memoryStore("memory:plain");
    await pushImage(memory, plain, "app");
    const store = await openLayout({ path: target, mode: "write" });
    const to = { store, reference: "app", beforeTag: () => Promise.reject(new Error("no signature")) };
    const request = { from: memory, root: plain.descriptor, to, cipher: "AES_256_CTR_HMAC_SHA256", wrappers: [wrapper] } as const;
    await expect(encryptImage(request)).rejects.toThrow("no signature");
    await store.close();
    expect(existsSync(target)).toBe(false);
  });
});

/** The layers as decryption makes them. */
async function planned(): Promise<readonly Descriptor[]> {
  const memory = memoryStore("memory:plain");
  await pushImage(memory, plain, "app");
  return (await readManifest(memory, plain.descriptor, {})).manifest.layers;
}
