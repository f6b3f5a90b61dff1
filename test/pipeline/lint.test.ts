import { randomBytes } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import { jweWrapper, kbsWrapper } from "../../src/keywrap/index.ts";
import { mediaTypes, serializeJson, type Descriptor, type ImageManifest } from "../../src/oci/index.ts";
import { encryptImage, lintImage } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, readManifest } from "../../src/store/index.ts";
import { ec, holderOf } from "../keywrap/keys.ts";

/*
 * What a stock Confidential Containers guest makes of an image, from the sources of image-rs and its data hub; what other
 * tools wrote is played by changing what ours wrote.
 */

const agent = "org.opencontainers.image.enc.keys.provider.attestation-agent";
const store = memoryStore();
let sealed: ImageManifest;

beforeAll(async () => {
  const made = await makeImage({ layers: [{ entries: [{ kind: "file", path: "a", content: Buffer.from("a") }] }] });
  await pushImage(store, made, "app");
  await encryptImage({
    from: store,
    root: made.descriptor,
    to: { store, reference: "sealed" },
    cipher: "AES_256_CTR_HMAC_SHA256",
    wrappers: [kbsWrapper({ uri: "kbs:///default/key/1", kek: randomBytes(32), packets: "attestation-agent" })],
    profile: "coco",
  });
  sealed = (await readManifest(store, await store.resolve("sealed"))).manifest;
});

async function reasons(change: (layer: Descriptor) => Descriptor): Promise<string> {
  const bytes = serializeJson({ ...sealed, layers: sealed.layers.map(change) });
  const root = { mediaType: mediaTypes.manifest, digest: digestOf(bytes), size: bytes.length };
  await store.push(root, async () => bytesStream(bytes));
  const findings = await lintImage({ store, root, profile: "coco" });
  for (const { hint } of findings) expect(hint).not.toBe("");
  return findings.map(({ message }) => message).join("\n");
}

/** Members of the packet replaced; `undefined` leaves one out. */
function packet(members: Readonly<Record<string, string | undefined>>): (layer: Descriptor) => Descriptor {
  return (layer) => {
    const packet = JSON.parse(Buffer.from(layer.annotations?.[agent] ?? "", "base64").toString()) as Record<string, string>;
    const changed = Buffer.from(JSON.stringify({ ...packet, ...members })).toString("base64");
    return { ...layer, annotations: { ...layer.annotations, [agent]: changed } };
  };
}

describe("lint --profile coco", () => {
  it.each([
    ["what we write", (layer: Descriptor) => layer],
    ["a host, which the guest passes over", packet({ kid: "kbs://kbs.example:8080/default/key/1" })],
    ["the other spelling of the plugin", packet({ kid: "kbs+resource:///default/key/1" })],
    ["packet v2", packet({ version: "0.1.0", provider: "kbs" })],
    ["a key of a cloud's KMS", packet({ kid: "alias/1", provider: "aliyun", iv: undefined, wrap_type: undefined })],
  ])("finds nothing wrong with %s", async (_, change) => {
    expect(await reasons(change)).toBe("");
  });

  it.each([
    ["a key id of coco_keyprovider's own", packet({ kid: "/default/image-kek/0b5e" }), "does not begin with kbs://"],
    ["a key id of two segments", packet({ kid: "kbs:///default/image-key" }), "not of three segments"],
    ["a key id with white space", packet({ kid: "kbs:///default/key/a b" }), "not of three segments"],
    ["A256CTR with the iv of GCM, as coco_keyprovider would", packet({ wrap_type: "A256CTR" }), "needs an iv of 16 bytes"],
    ["no iv", packet({ iv: undefined }), "needs an iv of 12 bytes"],
    ["another wrap type", packet({ wrap_type: "A256KW" }), 'wrapped with "A256KW"'],
    ["no wrap type", packet({ wrap_type: undefined }), "wrapped with nothing that it names"],
    ["zstd", (layer: Descriptor) => ({ ...layer, mediaType: `${mediaTypes.layerTarZstd}+encrypted` }), "not among the four"],
    ["a mark that was cut", (layer: Descriptor) => ({ ...layer, mediaType: mediaTypes.layerTarGzip }), "does not end in +encrypted"],
    ["no image layer", () => ({ ...sealed.config, mediaType: "application/vnd.wasm.content.layer.v1+wasm" }), "no image layer's"],
    [
      "a provider that sorts before it",
      (layer: Descriptor) => ({
        ...layer,
        annotations: { ...layer.annotations, "org.opencontainers.image.enc.keys.provider.aaa": "AAAA" },
      }),
      "sorts before",
    ],
  ])("says why not: %s", async (_, change, reason) => {
    expect(await reasons(change)).toContain(reason);
  });
});

describe("--profile coco", () => {
  it.each([
    ["layers in zstd", "zstd", [kbsWrapper({ uri: "kbs:///default/key/1", kek: randomBytes(32) })], /not among the four/],
    ["nobody at a KBS", "gzip", [jweWrapper({ publicKey: holderOf(ec()).publicKey })], /no packet for the attestation agent/],
  ] as const)("refuses %s before a byte moves, and in a plan", async (_, compression, wrappers, reason) => {
    const made = await makeImage({ layers: [{ entries: [{ kind: "file", path: "a", content: Buffer.from("a") }], compression }] });
    const [from, to] = [memoryStore(), memoryStore()];
    await pushImage(from, made, "app");
    const moved: string[] = [];
    for (const mode of ["plan", "write"] as const) {
      const sealing = encryptImage({
        from,
        root: made.descriptor,
        to: { store: to, reference: "never" },
        cipher: "AES_256_CTR_HMAC_SHA256",
        wrappers,
        profile: "coco",
        mode,
        onProgress: ({ kind }) => moved.push(kind),
      });
      await expect(sealing).rejects.toMatchObject({ code: "ERR_PROFILE_REFUSED", message: expect.stringMatching(reason) as string });
    }
    expect(moved).toEqual([]);
  });
});
