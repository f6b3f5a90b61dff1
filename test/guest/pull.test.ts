import { existsSync, readdirSync, readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { cipherNames } from "../../src/cipher/index.ts";
import { pullImage, type PullRequest } from "../../src/guest/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { bytesStream, openLayout, type ContentReader, type ContentStore } from "../../src/store/index.ts";
import { broker, image, put, readerOf, sign, signer, testFolder } from "./images.ts";
import { tar } from "./tar-bytes.ts";

const folder = testFolder();
const big = randomBytes(300_000);
const layers = [
  tar({ name: "etc/", type: "5" }, { name: "etc/motd", data: "hello\n" }, { name: "big", data: big }),
  tar({ name: "etc/.wh.motd" }, { name: "etc/second", data: "2" }),
];

type Plan = Pick<PullRequest, "store" | "verification" | "openKeys"> & Partial<PullRequest>;

async function pull(plan: Plan) {
  return await pullImage({ reference: "latest", target: folder.path("out"), output: "rootfs", ...plan });
}

describe("the guest's pull", () => {
  it.each(cipherNames)("verifies, unlocks and unpacks an image sealed with %s", async (cipher) => {
    const kbs = broker();
    const key = await signer();
    const { store, root } = await image({ layers, compression: "gzip", seal: kbs.seal(cipher) });
    await sign(store, root, key);
    const order: string[] = [];
    const report = await pullImage(
      {
        store,
        reference: "latest",
        target: folder.path("out"),
        output: "rootfs",
        verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
        openKeys: async () => {
          order.push("keys");
          return [kbs.unwrapper];
        },
      },
      { onEvent: ({ kind }) => order.push(kind) },
    );
    expect(readFileSync(folder.path("out/big")).equals(big)).toBe(true);
    expect(readdirSync(folder.path("out/etc"))).toEqual(["second"]);
    expect(order.slice(0, 3)).toEqual(["admitted", "keys", "opened"]);
    expect(kbs.asked).toHaveLength(1);
    expect(report.layers).toMatchObject([{ kind: "decrypted", cipher, openedBy: "test KBS" }, { kind: "decrypted" }]);
    expect(report.image.signature).toMatchObject({ basis: "signed", target: { digest: root.digest } });
    expect(readdirSync(folder.path())).toEqual(["out"]);
  });

  it("asks for no key when nobody signed the image, and leaves nothing", async () => {
    const kbs = broker();
    const key = await signer();
    const { store } = await image({ layers, seal: kbs.seal("AES_256_GCM_C2SP_CHUNKED_V1") });
    let keys = 0;
    const pulled = pull({
      store,
      verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
      openKeys: async () => {
        keys += 1;
        return [kbs.unwrapper];
      },
    });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_SIGNATURE_MISSING" });
    expect(keys).toBe(0);
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("asks for no key for a plain image", async () => {
    const { store } = await image({ layers });
    const report = await pull({
      store,
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: () => Promise.reject(new Error("nobody may ask")),
    });
    expect(report.layers).toMatchObject([{ kind: "plain" }, { kind: "plain" }]);
  });

  it("accepts an unsigned index whose chosen manifest is signed", async () => {
    const key = await signer();
    const { store, root } = await image({ layers });
    await sign(store, root, key);
    const entry = { ...root, platform: { os: "linux", architecture: "amd64" } };
    const index = await put(store, mediaTypes.index, serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [entry] }));
    const report = await pull({
      store,
      reference: index.digest,
      platform: { os: "linux", architecture: "amd64" },
      verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
      openKeys: async () => [],
    });
    expect(report.image).toMatchObject({ target: { digest: index.digest }, manifest: { digest: root.digest } });
  });

  it("writes a decrypted layout whose plain layers match the diffIDs", async () => {
    const kbs = broker();
    const { store } = await image({ layers, compression: "gzip", seal: kbs.seal("AES_256_GCM_C2SP_CHUNKED_V1") });
    await pull({ store, output: "oci", verification: { kind: "insecure-accept-unsigned" }, openKeys: async () => [kbs.unwrapper] });
    const layout = await openLayout({ path: folder.path("out"), mode: "read" });
    const plain = await image({ layers, compression: "gzip" });
    expect((await layout.resolve("latest")).digest).toBe(plain.root.digest);
    for (const layer of plain.layers) expect(await layout.exists(layer)).toBe(true);
  });

  it("keeps an image encrypted without asking for a key", async () => {
    const kbs = broker();
    const { store, root } = await image({ layers, seal: kbs.seal("AES_256_CTR_HMAC_SHA256") });
    const report = await pull({
      store,
      output: "oci-encrypted",
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: () => Promise.reject(new Error("nobody may ask")),
    });
    expect(report.result).toMatchObject({ output: "oci-encrypted", manifest: { digest: root.digest } });
    expect(report.layers).toMatchObject([{ kind: "kept-encrypted" }, { kind: "kept-encrypted" }]);
  });

  it.each(cipherNames)("leaves nothing of an image in which one bit of a layer sealed with %s was flipped", async (cipher) => {
    const kbs = broker();
    const { store, layers: sealed, root } = await image({ layers, seal: kbs.seal(cipher) });
    const [first] = sealed;
    if (first === undefined) throw new Error("no layer");
    const lying = await lyingStore(store, first);
    const pulled = pull({
      store: lying,
      reference: root.digest,
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: async () => [kbs.unwrapper],
    });
    await expect(pulled).rejects.toMatchObject({ category: "integrity" });
    expect(existsSync(folder.path("out"))).toBe(false);
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("that demands a statement of the plaintext must name who signs it", async () => {
    const { store } = await image({ layers });
    const pulled = pull({ store, seal: "required", verification: { kind: "insecure-accept-unsigned" }, openKeys: async () => [] });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_SEAL_UNVERIFIABLE", category: "integrity" });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("refuses an image whose platform is not the one asked for", async () => {
    const { store } = await image({ layers });
    const pulled = pull({
      store,
      platform: { os: "linux", architecture: "s390x" },
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: async () => [],
    });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_PLATFORM_MISMATCH" });
  });
});

/** The same store, but one bit in the middle of one blob is another, and nothing checks it. */
async function lyingStore(store: ContentStore, target: Descriptor): Promise<ContentReader> {
  const bytes = await buffer(await store.fetch(target));
  bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
  expect(digestOf(bytes)).not.toBe(target.digest);
  return readerOf(store, async (wanted, options) =>
    wanted.digest === target.digest ? bytesStream(bytes) : await store.fetch(wanted, options),
  );
}
