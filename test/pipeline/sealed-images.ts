import { generateKeyPairSync } from "node:crypto";
import { expect } from "vitest";
import { makeImage, pushImage, type FixtureImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import { jweWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import { serializeJson, type Descriptor, type ImageManifest } from "../../src/oci/index.ts";
import { decryptImage, encryptImage, type EncryptRequest } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, readManifest, type ContentStore } from "../../src/store/index.ts";

function keyPair(): {
  readonly wrapper: ReturnType<typeof jweWrapper>;
  readonly unwrapper: ReturnType<typeof privateKeyUnwrapper>;
  readonly id: string;
} {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const recipient = parsePublicKey(publicKey.export({ format: "der", type: "spki" }));
  const key = parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }));
  return { wrapper: jweWrapper({ publicKey: recipient }), unwrapper: privateKeyUnwrapper([key]), id: recipient.thumbprint };
}

export const alice = keyPair();
export const bob = keyPair();

export function layered(...contents: readonly string[]): Promise<FixtureImage> {
  return makeImage({
    layers: contents.map((content, i) => ({ entries: [{ kind: "file", path: `file${i}`, content: Buffer.from(content.repeat(500)) }] })),
    run: { Env: ["API_TOKEN=x"] },
  });
}

export async function stored(image: FixtureImage): Promise<ContentStore> {
  const store = memoryStore("memory:source");
  await pushImage(store, image, "app");
  return store;
}

export async function encrypted(
  image: FixtureImage,
  change: Partial<EncryptRequest> = {},
): Promise<{ readonly to: ContentStore; readonly root: Descriptor }> {
  const to = memoryStore("memory:target");
  const report = await encryptImage({
    from: await stored(image),
    root: image.descriptor,
    to: { store: to, reference: "sealed" },
    cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
    wrappers: [alice.wrapper],
    ...change,
  });
  expect(report.dryRun).toBe(false);
  return { to, root: await to.resolve("sealed") };
}

export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(
    () => "no error",
    (thrown: unknown) => thrown,
  );
  return error instanceof Error && "code" in error ? error.code : error;
}

/** The image with its manifest changed, under a tag of its own. */
export async function changed(
  store: ContentStore,
  root: Descriptor,
  change: (manifest: ImageManifest) => ImageManifest,
): Promise<Descriptor> {
  const { manifest } = await readManifest(store, root);
  const bytes = serializeJson(change(manifest));
  const target = { mediaType: root.mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(target, async () => bytesStream(bytes));
  return target;
}

export const open = (store: ContentStore, root: Descriptor, unwrapper = alice.unwrapper) =>
  decryptImage({ from: store, root, to: { store: memoryStore(), reference: "open" }, unwrappers: [unwrapper] });
