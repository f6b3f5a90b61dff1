import { createGunzip, createZstdDecompress, gzipSync, zstdCompressSync } from "node:zlib";
import { Readable } from "node:stream";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { jweWrapper, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import { openLayer, padLayer, paddedSize, padmeSize, sealLayer } from "../../src/layer/index.ts";
import { chunksOf, openerOf, read } from "../cipher/bytes.ts";
import { gcm } from "../cipher/layers.ts";
import { codeOf, ec, holderOf } from "../keywrap/keys.ts";
import { missingPeers } from "../peers.ts";
import { addBlob, plainImage, readBlob, run, tarOf, writeImage } from "./layout.ts";

const types = { gzip: "application/vnd.oci.image.layer.v1.tar+gzip", zstd: "application/vnd.oci.image.layer.v1.tar+zstd" } as const;
const pad = (kind: keyof typeof types, blob: Uint8Array) => read(padLayer(types[kind], blob.length)(chunksOf(blob, 777)));
const folder = mkdtempSync(join(tmpdir(), "ociseal-padding-"));
afterAll(() => rmSync(folder, { recursive: true }));

it("follows the published values and costs at most 12 %", () => {
  expect([0, 1, 2, 9, 100, 1000, 65_537, 1_000_000, 2 ** 30 + 1].map(padmeSize)).toEqual([
    0,
    1,
    2,
    10,
    104,
    1024,
    67_584,
    1_015_808,
    2 ** 30 + 2 ** 25,
  ]);
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 2 ** 45 }), (size) => {
      const padded = padmeSize(size);
      expect(padded).toBeGreaterThanOrEqual(size);
      expect(padded).toBeLessThanOrEqual(size * 1.12 + 1);
      expect(padmeSize(padded)).toBe(padded);
    }),
  );
});

describe.each(["gzip", "zstd"] as const)("a padded %s layer", (kind) => {
  it("uncompresses to the same bytes, whatever its size", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 200_000 }), async (size) => {
        const content = randomBytes(size);
        const blob = kind === "gzip" ? gzipSync(content, { level: 0 }) : zstdCompressSync(content);
        const padded = await pad(kind, blob);
        expect(padded.length).toBe(paddedSize(types[kind], blob.length));
        expect(padmeSize(padded.length)).toBe(padded.length);
        expect(padded.subarray(0, blob.length).equals(blob)).toBe(true);
        const inflate = kind === "gzip" ? createGunzip() : createZstdDecompress();
        expect((await read(Readable.from([padded]).pipe(inflate))).equals(content)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it("keeps a size that fits already", async () => {
    const blob = Buffer.alloc(1024);
    expect(await pad(kind, blob)).toEqual(blob);
  });

  it("is sealed and opened like any other", async () => {
    const holder = holderOf(ec());
    const blob = kind === "gzip" ? gzipSync(Buffer.alloc(50_000, "x")) : zstdCompressSync(Buffer.alloc(50_000, "x"));
    const sealing = await sealLayer({
      layer: { mediaType: types[kind], size: paddedSize(types[kind], blob.length) },
      cipher: gcm,
      wrappers: [jweWrapper({ publicKey: holder.publicKey })],
    });
    const sealed = await read(sealing.stage(padLayer(types[kind], blob.length)(chunksOf(blob, 100))));
    expect(sealed.length).toBe(sealing.size);
    const layer = await sealing.finish({ digest: digestOf(sealed), size: sealed.length });
    const opened = await openLayer({ layer, unwrappers: [privateKeyUnwrapper([holder.privateKey])] });
    expect((await read(await opened.open(openerOf(sealed)))).subarray(0, blob.length)).toEqual(blob);
  });
});

it("refuses layers that are not compressed, and sizes that do not come", async () => {
  expect(await codeOf(() => padLayer("application/vnd.oci.image.layer.v1.tar", 10))).toBe("ERR_LAYER_PADDING");
  expect(await codeOf(() => read(padLayer(types.gzip, 10)(chunksOf(Buffer.alloc(9), 9))))).toBe("ERR_LAYER_PADDING");
});

describe.skipIf(missingPeers("umoci"))("umoci", () => {
  it("unpacks a layer whose padding takes several members", async () => {
    const tar = tarOf("file", randomBytes(3_000_000));
    const blob = gzipSync(tar, { level: 0 });
    const padded = await pad("gzip", blob);
    const image = join(folder, "image");
    plainImage(image, []);
    writeImage(image, [{ mediaType: types.gzip, ...addBlob(image, padded) }], [digestOf(tar)]);
    expect(run("umoci", "unpack", "--rootless", "--image", `${image}:it`, join(folder, "bundle"))).toMatchObject({ status: 0 });
    expect(readBlob(image, digestOf(padded)).length).toBe(padded.length);
  });
});
