import { generateKeyPairSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import { jweWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import { isEncryptedLayer } from "../../src/layer/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { decryptImage, describeImage, encryptImage, rewrapImage, type EncryptRequest } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, readIndex, readManifest, type ContentStore } from "../../src/store/index.ts";
import { putIndex } from "../store/images.ts";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrapper = jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });
const unwrappers = [privateKeyUnwrapper([parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }))])];
const nowhere = { os: "unknown", architecture: "unknown" };
const about = "vnd.docker.reference.digest";

/** As BuildKit makes it: each platform's image, and an attestation manifest about it. */
async function withAttestations(store: ContentStore, statement: "in-toto" | "layers" = "in-toto"): Promise<Descriptor> {
  const entries: Descriptor[] = [];
  for (const architecture of ["amd64", "arm64"]) {
    const platform = { os: "linux", architecture };
    const image = await makeImage({ layers: [{ entries: [{ kind: "file", path: "arch", content: architecture }] }], platform });
    const attestation = await makeImage({
      layers: [{ entries: [{ kind: "file", path: "sbom", content: `of ${architecture}` }], compression: "none" }],
      platform: nowhere,
    });
    await pushImage(store, image);
    await pushImage(store, attestation);
    const told =
      statement === "layers" ? attestation.descriptor : await retyped(store, attestation.descriptor, "application/vnd.in-toto+json");
    const annotations = { "vnd.docker.reference.type": "attestation-manifest", [about]: image.descriptor.digest };
    entries.push({ ...image.descriptor, platform }, { ...told, platform: nowhere, annotations });
  }
  return putIndex(store, entries);
}

async function retyped(store: ContentStore, root: Descriptor, mediaType: string): Promise<Descriptor> {
  const { manifest } = await readManifest(store, root);
  const bytes = serializeJson({ ...manifest, layers: manifest.layers.map((layer) => ({ ...layer, mediaType })) });
  const target = { mediaType: mediaTypes.manifest, digest: digestOf(bytes), size: bytes.length };
  await store.push(target, async () => bytesStream(bytes));
  return target;
}

async function sealed(statement: "in-toto" | "layers", more: Partial<EncryptRequest> = {}) {
  const [from, to] = [memoryStore(), memoryStore()];
  const root = await withAttestations(from, statement);
  const report = await encryptImage({
    from,
    root,
    to: { store: to, reference: "sealed" },
    cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
    wrappers: [wrapper],
    ...more,
  });
  const result = await to.resolve("sealed");
  return { to, root, result, report, index: (await readIndex(to, result)).index };
}

describe("an index with attestations of BuildKit", () => {
  it("is encrypted with its attestations beside it, about the new manifests, and comes back as it was", async () => {
    const { to, root, result, index } = await sealed("in-toto");
    const [amd64, first, arm64, second] = index.manifests;
    expect([first, second].map((entry) => entry?.annotations?.[about])).toEqual([amd64?.digest, arm64?.digest]);
    const { attached, warnings } = await describeImage({ store: to, root: result });
    expect(attached).toHaveLength(2);
    expect(warnings.join()).toContain("2 attached attestation(s) are readable by anyone");
    const target = memoryStore();
    const opened = await decryptImage({ from: to, root: result, to: { store: target, reference: "open" }, unwrappers });
    expect(opened.result.digest).toBe(root.digest);
  });

  it("keeps those of a chosen platform, through encrypt, rewrap and decrypt", async () => {
    const platforms = [{ os: "linux", architecture: "arm64" }];
    const { to, result, index } = await sealed("in-toto", { platforms });
    expect(index.manifests).toHaveLength(2);
    expect(index.manifests[1]?.annotations?.[about]).toBe(index.manifests[0]?.digest);
    await rewrapImage({ from: to, root: result, to: { store: to, reference: "new" }, unwrappers, add: [wrapper], platforms });
    const { index: rewrapped } = await readIndex(to, await to.resolve("new"));
    expect(rewrapped.manifests[1]?.annotations?.[about]).toBe(rewrapped.manifests[0]?.digest);
  });

  it("never leaves layers of an image plain because their manifest is called an attestation", async () => {
    const { to, index } = await sealed("layers");
    for (const entry of index.manifests) {
      const { manifest } = await readManifest(to, entry);
      expect(manifest.layers.map(isEncryptedLayer)).toEqual([true]);
    }
  });
});
