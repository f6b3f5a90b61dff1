import { describe, expect, it } from "vitest";
import { makeImage, makeIndex, pushImage } from "../../registry-fixtures/index.ts";
import { digestOf } from "../../src/bytes/index.ts";
import { serializeJson, type Descriptor, type ImageManifest } from "../../src/oci/index.ts";
import { decryptImage, rewrapImage } from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, readIndex, readManifest } from "../../src/store/index.ts";
import { alice, bob, changed, codeOf, encrypted, layered, open, stored } from "./sealed-images.ts";

describe("decrypting a changed image", () => {
  const image = layered("a", "b");

  it.each([
    ["layers in another order", (m: ImageManifest) => ({ ...m, layers: m.layers.toReversed() }), "ERR_DIFF_ID_MISMATCH"],
    [
      "one layer twice",
      (m: ImageManifest) => ({ ...m, layers: m.layers.flatMap((_, __, all) => all.slice(0, 1)) }),
      "ERR_DIFF_ID_MISMATCH",
    ],
    ["a layer too few", (m: ImageManifest) => ({ ...m, layers: m.layers.slice(1) }), "ERR_DIFF_ID_MISMATCH"],
    [
      "the mark cut off",
      (m: ImageManifest) => ({ ...m, layers: m.layers.map((l) => ({ ...l, mediaType: l.mediaType.replace("+encrypted", "") })) }),
      "ERR_LAYER_MARK_MISSING",
    ],
    [
      "the annotations cut off",
      (m: ImageManifest) => ({ ...m, layers: m.layers.map(({ annotations: _annotations, ...l }) => l) }),
      "ERR_LAYER_ANNOTATIONS_MISSING",
    ],
    [
      "another media type",
      (m: ImageManifest) => ({ ...m, layers: m.layers.map((l) => ({ ...l, mediaType: l.mediaType.replace("+gzip", "") })) }),
      "ERR_CIPHER_COMMITMENT_MISMATCH",
    ],
  ])("with %s is refused, and nothing is written under a name", async (_what, change, code) => {
    const { to, root } = await encrypted(await image);
    const target = memoryStore();
    const bad = await changed(to, root, change);
    const opening = decryptImage({ from: to, root: bad, to: { store: target, reference: "x" }, unwrappers: [alice.unwrapper] });
    expect(await codeOf(opening)).toBe(code);
    expect(await target.tags()).toEqual([]);
  });

  it("checks the plain platforms of an index too: their marks may have been cut off", async () => {
    const pair = await Promise.all(
      ["amd64", "arm64"].map((architecture) =>
        makeImage({
          layers: [{ entries: [{ kind: "file", path: architecture, content: "x" }] }],
          platform: { os: "linux", architecture },
        }),
      ),
    );
    const source = makeIndex({ images: pair });
    const { to, root } = await encrypted(source);
    const { index } = await readIndex(to, root);
    const [kept, cut] = index.manifests;
    if (kept === undefined || cut === undefined) throw new Error("no platforms");
    const writeIndex = async (manifests: readonly Descriptor[]): Promise<Descriptor> => {
      const bytes = serializeJson({ ...index, manifests });
      const target = { mediaType: root.mediaType, digest: digestOf(bytes), size: bytes.length };
      await to.push(target, async () => bytesStream(bytes));
      return target;
    };
    const bare = await changed(to, cut, (manifest) => ({
      ...manifest,
      layers: manifest.layers.map(({ annotations: _annotations, ...layer }) => ({
        ...layer,
        mediaType: layer.mediaType.replace("+encrypted", ""),
      })),
    }));
    expect(await codeOf(open(to, await writeIndex([kept, { ...cut, digest: bare.digest, size: bare.size }])))).toBe("ERR_DIFF_ID_MISMATCH");
    // One that is plain indeed passes, and the report has it.
    const [, plain] = pair;
    if (plain === undefined) throw new Error("no image");
    await pushImage(to, plain, "plain");
    const mixed = await writeIndex([kept, plain.descriptor]);
    const target = memoryStore();
    const request = { from: to, root: mixed, to: { store: target, reference: "open" }, unwrappers: [alice.unwrapper] };
    const { layers, result } = await decryptImage(request);
    expect(layers.map(({ image, outcome }) => [image, outcome])).toEqual([
      ["linux/amd64", "decrypted"],
      ["linux/arm64", "kept"],
    ]);
    expect(result.digest).toBe(source.descriptor.digest);
    const rewrapped = await rewrapImage({ ...request, to: { store: to, reference: "new" }, add: [bob.wrapper] });
    expect(rewrapped.layers.map(({ image, outcome }) => [image, outcome])).toEqual([
      ["linux/amd64", "rewrapped"],
      ["linux/arm64", "kept"],
    ]);
    expect((await readIndex(to, await to.resolve("new"))).index.manifests[1]).toEqual(plain.descriptor);
  });

  it("with a stray key fails before anything is written", async () => {
    const { to, root } = await encrypted(await image);
    expect(await codeOf(open(to, root, bob.unwrapper))).toBe("ERR_KEYWRAP_NO_KEY");
  });

  it("of which nothing is encrypted says so", async () => {
    const plain = await image;
    expect(await codeOf(open(await stored(plain), plain.descriptor))).toBe("ERR_NOT_ENCRYPTED");
  });
});

describe("rewrapping", () => {
  it("adds and removes recipients; blobs stay what they are", async () => {
    const { to, root } = await encrypted(await layered("a"));
    const before = (await readManifest(to, root)).manifest.layers.map(({ digest }) => digest);
    const report = await rewrapImage({
      from: to,
      root,
      to: { store: to, reference: "re" },
      unwrappers: [alice.unwrapper],
      add: [bob.wrapper],
      remove: ({ id }) => (id === alice.id ? "remove" : "keep"),
    });
    expect(report.removed.map(({ id }) => id)).toEqual([alice.id]);
    const now = await to.resolve("re");
    expect((await readManifest(to, now)).manifest.layers.map(({ digest }) => digest)).toEqual(before);
    expect(await codeOf(open(to, now))).toBe("ERR_KEYWRAP_NO_KEY");
    expect(await codeOf(open(to, now, bob.unwrapper))).toBe("no error");
  });

  it("signs off on no layer whose mark was cut off", async () => {
    const { to, root } = await encrypted(await layered("a", "b"));
    const bad = await changed(to, root, (m) => ({
      ...m,
      layers: m.layers.map((layer, i) => (i === 0 ? { ...layer, mediaType: layer.mediaType.replace("+encrypted", "") } : layer)),
    }));
    const request = { from: to, root: bad, to: { store: to, reference: "x" }, unwrappers: [alice.unwrapper], add: [bob.wrapper] };
    expect(await codeOf(rewrapImage(request))).toBe("ERR_LAYER_MARK_MISSING");
  });

  it("never leaves an image that nobody can open", async () => {
    const { to, root } = await encrypted(await layered("a"));
    expect(await codeOf(rewrapImage({ from: to, root, to: { store: to, reference: "x" }, remove: () => "remove" }))).toBe(
      "ERR_LAYER_NO_RECIPIENT",
    );
  });
});
