import { generateKeyPairSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { makeImage, pushImage, type FixtureImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import { jweWrapper, parsePublicKey } from "../../src/keywrap/index.ts";
import { isEncryptedLayer } from "../../src/layer/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { describeImage, encryptImage } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, type ContentStore } from "../../src/store/index.ts";

const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrapper = jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });

function image(): Promise<FixtureImage> {
  return makeImage({ layers: [{ entries: [{ kind: "file", path: "file", content: Buffer.from("content".repeat(100)) }] }] });
}

async function push(store: ContentStore, document: object, mediaType: string): Promise<Descriptor> {
  const bytes = serializeJson(document);
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(descriptor, async () => bytesStream(bytes));
  return descriptor;
}

const encrypt = (from: ContentStore, root: Descriptor, to: ContentStore) =>
  encryptImage({ from, root, to: { store: to, reference: "sealed" }, cipher: "AES_256_GCM_C2SP_CHUNKED_V1", wrappers: [wrapper] });

describe("an image", () => {
  it("whose indexes lead ever deeper is refused", async () => {
    const store = memoryStore("memory:deep");
    const made = await image();
    await pushImage(store, made, "app");
    let root = made.descriptor;
    for (let depth = 0; depth < 12; depth += 1) {
      const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [root] };
      root = await push(store, index, mediaTypes.index);
    }
    await expect(describeImage({ store, root })).rejects.toMatchObject({ code: "ERR_IMAGE_TOO_DEEP", category: "integrity" });
  });

  it("with a layer that lives at a foreign URL only is refused before anything is written", async () => {
    const store = memoryStore("memory:foreign");
    const made = await image();
    await pushImage(store, made, "app");
    const manifest = JSON.parse(made.contents.at(-1)?.bytes.toString("utf8") ?? "") as { layers: Descriptor[] };
    const [layer] = manifest.layers;
    const foreign = {
      ...layer,
      mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
      digest: digestOf(Buffer.from("elsewhere")),
      urls: ["https://elsewhere.example/layer"],
    };
    const root = await push(store, { ...manifest, layers: [foreign] }, mediaTypes.manifest);
    const to = memoryStore("memory:target");
    await expect(encrypt(store, root, to)).rejects.toMatchObject({ code: "ERR_LAYER_FOREIGN" });
    expect(await to.tags()).toEqual([]);
  });

  it("is not named when the destination lost a blob of it", async () => {
    const store = memoryStore("memory:source");
    const made = await image();
    await pushImage(store, made, "app");
    const to = memoryStore("memory:forgetful");
    const forgetful = new Proxy(to, {
      get: (target, name) => {
        if (name === "exists") return async (descriptor: Descriptor) => !isEncryptedLayer(descriptor) && (await target.exists(descriptor));
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
    await expect(encrypt(store, made.descriptor, forgetful)).rejects.toMatchObject({ code: "ERR_POSTCONDITION" });
    expect(await to.tags()).toEqual([]);
  });
});
