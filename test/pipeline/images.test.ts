import * as fc from "fast-check";
import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { makeImage, makeIndex, makeReferrer } from "../../registry-fixtures/index.ts";
import { collect, digestOf } from "../../src/bytes/index.ts";
import { encryptionAnnotations, isEncryptedLayer } from "../../src/layer/index.ts";
import {
  chosenPositions,
  decryptImage,
  describeImage,
  encryptImage,
  lintImage,
  parseLayerChoice,
  readLayer,
  type EncryptRequest,
} from "../../src/pipeline/index.ts";
import { bytesStream, memoryStore, readConfig, readManifest } from "../../src/store/index.ts";
import { alice, changed, codeOf, encrypted, layered, open, stored } from "./sealed-images.ts";

describe("encrypting an image", () => {
  it.each(["AES_256_GCM_C2SP_CHUNKED_V1", "AES_256_CTR_HMAC_SHA256"] as const)(
    "and decrypting it gives the same digest, with %s",
    async (cipher) => {
      const image = await layered("a", "b");
      const { to, root } = await encrypted(image, { cipher });
      expect(root.digest).not.toBe(image.descriptor.digest);
      expect((await open(to, root)).result.digest).toBe(image.descriptor.digest);
    },
  );

  it("keeps an index an index, rewrites each platform once, and carries attestations along under the new digest", async () => {
    const one = await makeImage({
      layers: [{ entries: [{ kind: "file", path: "x", content: "shared" }] }],
      platform: { os: "linux", architecture: "amd64" },
    });
    const two = await makeImage({
      layers: [{ entries: [{ kind: "file", path: "x", content: "shared" }] }],
      platform: { os: "linux", architecture: "arm64" },
    });
    const index = makeIndex({ images: [one, two] });
    const { to, root } = await encrypted(index);
    const { platforms } = await describeImage({ store: to, root });
    expect(platforms.map(({ image }) => image)).toEqual(["linux/amd64", "linux/arm64"]);
    // The same layer in two platforms stays one blob.
    expect(new Set(platforms.flatMap(({ layers }) => layers.map(({ digest }) => digest))).size).toBe(1);
  });

  it("encrypts only the chosen layers, and says so", async () => {
    const image = await layered("a", "b", "c");
    const { to, root } = await encrypted(image, { layers: parseLayerChoice(["-1", "0"]) });
    const { manifest } = await readManifest(to, root);
    expect(manifest.layers.map(isEncryptedLayer)).toEqual([true, false, true]);
  });

  it("writes nothing for a plan", async () => {
    const image = await layered("a");
    const to = memoryStore();
    const report = await encryptImage({
      from: await stored(image),
      root: image.descriptor,
      to: { store: to, reference: "never" },
      cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
      wrappers: [alice.wrapper],
      mode: "plan",
    });
    expect(report).toMatchObject({ dryRun: true, layers: [{ outcome: "encrypted" }] });
    expect(await to.tags()).toEqual([]);
  });

  it("hides exact sizes on request; what it unpacks to stays", async () => {
    const image = await layered("a", "longer text");
    for (const cipher of ["AES_256_GCM_C2SP_CHUNKED_V1", "AES_256_CTR_HMAC_SHA256"] as const) {
      const [plain, padded] = [await encrypted(image, { cipher }), await encrypted(image, { cipher, padding: "padme" })];
      const sizes = async ({ to, root }: typeof plain) => (await readManifest(to, root)).manifest.layers.map(({ size }) => size);
      expect(await sizes(padded)).not.toEqual(await sizes(plain));
      // Opening compares every diffID.
      expect(await codeOf(open(padded.to, padded.root))).toBe("no error");
    }
  });

  it("removes the history on request, with what docker and BuildKit write of it elsewhere", async () => {
    const image = await layered("a");
    const from = await stored(image);
    const { manifest } = await readManifest(from, image.descriptor);
    const { bytes } = await readConfig(from, manifest.config);
    const config = Buffer.from(
      JSON.stringify({
        ...(JSON.parse(bytes.toString()) as object),
        container_config: { Cmd: ["/bin/sh", "-c", "#(nop) secret step"] },
        "moby.buildkit.buildinfo.v1": Buffer.from("secret step").toString("base64"),
      }),
    );
    const target = { ...manifest.config, digest: digestOf(config), size: config.length };
    await from.push(target, async () => bytesStream(config));
    const root = await changed(from, image.descriptor, (m) => ({ ...m, config: target }));
    const records = ["history", "container_config", "moby.buildkit.buildinfo.v1"];
    const [before] = (await describeImage({ store: from, root })).platforms;
    expect(before?.clear?.buildRecords).toEqual(records);
    const to = memoryStore();
    const request = { from, root, cipher: "AES_256_GCM_C2SP_CHUNKED_V1", wrappers: [alice.wrapper] } as const;
    const kept = await encryptImage({ ...request, to: { store: to, reference: "kept" } });
    expect((await describeImage({ store: to, root: kept.result })).warnings.join("\n")).toContain(records.join(", "));
    const { result } = await encryptImage({ ...request, to: { store: to, reference: "stripped" }, history: "strip" });
    const { platforms, warnings } = await describeImage({ store: to, root: result });
    expect(platforms[0]?.clear).toMatchObject({ history: [], buildRecords: [], env: ["API_TOKEN=x"] });
    expect(warnings.join("\n")).not.toContain("--strip-history");
    expect((await open(to, result)).result.digest).not.toBe(root.digest);
  });

  it.each([
    ["nobody", { wrappers: [] }, "ERR_NO_RECIPIENT"],
    ["a layer that is not there", { layers: parseLayerChoice(["5"]) }, "ERR_LAYER_CHOICE"],
    ["a platform that is not there", { platforms: [{ os: "plan9", architecture: "mips" }] }, "no error"],
    ["readers that would not open it", { profile: "coco" as const }, "ERR_PROFILE_REFUSED"],
  ])("for %s answers with its own code", async (_what, change, code) => {
    expect(await codeOf(encrypted(await layered("a"), change))).toBe(code);
  });

  it("refuses what is encrypted already, and artifacts", async () => {
    const { to, root } = await encrypted(await layered("a"));
    const again = encryptImage({
      from: to,
      root,
      to: { store: memoryStore(), reference: "x" },
      cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
      wrappers: [alice.wrapper],
    });
    expect(await codeOf(again)).toBe("ERR_ALREADY_ENCRYPTED");
    const sbom = makeReferrer((await layered("a")).descriptor, "application/vnd.example.sbom+json", "{}");
    expect(await codeOf(encrypted(sbom))).toBe("ERR_LAYER_UNENCRYPTABLE");
  });

  it("signs before the name moves, and moves no name when signing fails", async () => {
    const to = memoryStore();
    const image = await layered("a");
    const refused = encryptImage({
      from: await stored(image),
      root: image.descriptor,
      to: { store: to, reference: "app", beforeTag: () => Promise.reject(new Error("the key is away")) },
      cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
      wrappers: [alice.wrapper],
    });
    await expect(refused).rejects.toThrow("the key is away");
    expect(await to.tags()).toEqual([]);
  });

  it("gives equal layers equal ciphertexts under a tenant's secret, and only then", async () => {
    const image = await layered("a");
    const digests = async (change: Partial<EncryptRequest>) => {
      const { to, root } = await encrypted(image, change);
      return (await readManifest(to, root)).manifest.layers.map(({ digest }) => digest);
    };
    const convergentSecret = randomBytes(32);
    expect(await digests({ convergentSecret })).toEqual(await digests({ convergentSecret }));
    expect(await digests({})).not.toEqual(await digests({}));
  });
});

describe("looking at an image", () => {
  it("names what leaks", async () => {
    const { to, root } = await encrypted(await layered("a", "b"), { layers: parseLayerChoice(["0"]) });
    const { warnings } = await describeImage({ store: to, root });
    expect(warnings.join("\n")).toMatch(/1 of 2 layers are plain[\s\S]*API_TOKEN/);
  });

  it("says which stock reader would not open it", async () => {
    const gcm = await encrypted(await layered("a"));
    expect(await lintImage({ store: gcm.to, root: gcm.root, profile: "ocicrypt" })).not.toEqual([]);
    const ctr = await encrypted(await layered("a"), { cipher: "AES_256_CTR_HMAC_SHA256", profile: "ocicrypt" });
    expect(await lintImage({ store: ctr.to, root: ctr.root, profile: "ocicrypt" })).toEqual([]);
    expect((await lintImage({ store: ctr.to, root: ctr.root, profile: "coco" }))[0]?.message).toContain("attestation agent");
  });

  it("gives any range of a layer, verified, and refuses one of a plain layer", async () => {
    const image = await layered("some text ");
    const { to, root } = await encrypted(image);
    const [layer] = (await readManifest(to, root)).manifest.layers;
    const [plain] = (await readManifest(await stored(image), image.descriptor)).manifest.layers;
    if (layer === undefined || plain === undefined) throw new Error("no layer");
    const limits = { maxBytes: 1 << 20 };
    const whole = await collect(await readLayer({ store: to, layer, unwrappers: [alice.unwrapper] }), limits);
    expect(digestOf(whole)).toBe(plain.digest);
    const range = { start: 3, end: 11 };
    expect(await collect(await readLayer({ store: to, layer, unwrappers: [alice.unwrapper], range }), limits)).toEqual(
      whole.subarray(3, 11),
    );
    expect(await codeOf(readLayer({ store: await stored(image), layer: plain, unwrappers: [], range }))).toBe("ERR_NOT_ENCRYPTED");
  });
});

describe("layer choice", () => {
  it("means the positions that it says, and nothing out of range", () => {
    const layers = Array.from({ length: 4 }, (_, i) => ({ mediaType: "x/y", digest: digestOf(Buffer.from([i])), size: 1 }));
    const positions = (n: number) => [...chosenPositions(parseLayerChoice([String(n)]), layers, "image")];
    fc.assert(
      fc.property(fc.integer({ min: -4, max: 3 }), (n) => {
        expect(positions(n)).toEqual([n < 0 ? 4 + n : n]);
      }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.integer({ min: -99, max: -5 }), fc.integer({ min: 4, max: 99 })), (n) => {
        expect(() => positions(n)).toThrow(/out of range/);
      }),
    );
    expect(() => parseLayerChoice(["first"])).toThrow(/not a layer/);
  });

  it("by digest finds each platform's own layer in an index, and forgets no platform", async () => {
    const platforms = await Promise.all(
      ["amd64", "arm64"].map((architecture) =>
        makeImage({
          layers: ["base", "app"].map((name) => ({
            entries: [{ kind: "file", path: name, content: Buffer.from(`${name} ${architecture}`) }],
          })),
          platform: { os: "linux", architecture },
        }),
      ),
    );
    const index = makeIndex({ images: platforms });
    const from = await stored(index);
    const digests: string[] = [];
    for (const { descriptor } of platforms) digests.push((await readManifest(from, descriptor)).manifest.layers[1]?.digest ?? "");
    const { to, root } = await encrypted(index, { layers: parseLayerChoice([digests.join(",")]) });
    const { platforms: described } = await describeImage({ store: to, root });
    expect(described.map(({ layers }) => layers.map(({ encryption }) => encryption !== undefined))).toEqual([
      [false, true],
      [false, true],
    ]);
    await expect(encrypted(index, { layers: parseLayerChoice([digests[0] ?? ""]) })).rejects.toThrow(/linux\/arm64.* would stay plain/);
    const stranger = digestOf(Buffer.from("x"));
    await expect(encrypted(index, { layers: parseLayerChoice([...digests, stranger]) })).rejects.toThrow(`no layer ${stranger}`);
  });
});

it("keeps annotations that are not about encryption", async () => {
  const { to, root } = await encrypted(await layered("a"));
  const marked = await changed(to, root, (m) => ({
    ...m,
    layers: m.layers.map((l) => ({ ...l, annotations: { ...l.annotations, note: "mine" } })),
  }));
  const target = memoryStore();
  await decryptImage({ from: to, root: marked, to: { store: target, reference: "x" }, unwrappers: [alice.unwrapper] });
  const [layer] = (await readManifest(target, await target.resolve("x"))).manifest.layers;
  expect(layer?.annotations).toEqual({ note: "mine" });
  expect(Object.keys(layer?.annotations ?? {}).some((name) => name.startsWith(encryptionAnnotations.prefix))).toBe(false);
});
