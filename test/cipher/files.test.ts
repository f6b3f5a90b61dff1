import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  CipherThreads,
  decryptToFile,
  encryptToFile,
  encryptToStream,
  newDecryption,
  newEncryption,
  type CipherName,
} from "../../src/cipher/index.ts";
import { chunksOf, openerOf, read } from "./bytes.ts";
import { ctr, gcm, mediaType, opening, outcomeOf, pattern, sealed } from "./layers.ts";

const MiB = 1 << 20;
const threads = new CipherThreads();
/** For layers that are a small part of everything: each is one thread's alone. */
const apart = new CipherThreads({ total: 2 ** 40 });
afterAll(() => Promise.all([threads.close(), apart.close()]));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-cipher-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const sha256 = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const kinds: readonly (readonly [string, CipherName, "tagged" | "untagged"])[] = [
  ["chunked GCM", gcm, "tagged"],
  ["CTR with segment tags", ctr, "tagged"],
  ["CTR without segment tags", ctr, "untagged"],
];

async function codeOf(run: () => Promise<unknown>): Promise<string> {
  return (
    await outcomeOf(async () => {
      await run();
      return chunksOf(new Uint8Array(0), 1);
    })
  ).code;
}

describe.each(kinds)("files, %s", (_, cipher, tags) => {
  const encrypt = async (plaintext: Uint8Array, pool?: CipherThreads) => {
    writeFileSync(at("plain"), plaintext);
    const size = plaintext.length;
    const encryption = newEncryption({ cipher, mediaType, plaintextSize: tags === "tagged" ? size : undefined });
    const addresses = await encryptToFile(encryption, { source: { path: at("plain") }, targetPath: at("blob"), size, threads: pool });
    return {
      addresses,
      blob: readFileSync(at("blob")),
      publicOptions: encryption.publicOptions(),
      privateOptions: encryption.privateOptions,
    };
  };

  it.each([0, 1, 16383, 16384, MiB / 2 - 1, MiB / 2, MiB / 2 + 1, 9 * MiB + 5])(
    "go round with %i bytes, here and in threads",
    async (size) => {
      const plaintext = pattern(size);
      for (const pool of [undefined, threads, apart]) {
        const layer = await encrypt(plaintext, pool);
        expect(layer.addresses).toEqual({
          plaintext: { digest: sha256(plaintext), size },
          ciphertext: { digest: sha256(layer.blob), size: layer.blob.length },
        });
        expect((await read(await opening(layer).open(openerOf(layer.blob)))).equals(plaintext)).toBe(true);
        const file = await decryptToFile(opening(layer), {
          source: { path: at("blob") },
          targetPath: at("out"),
          threads: pool,
          compression: "none",
        });
        expect(file).toEqual({ ...layer.addresses, uncompressed: sha256(plaintext) });
        expect(readFileSync(at("out")).equals(plaintext)).toBe(true);
        for (const name of ["blob", "out"]) rmSync(at(name));
      }
    },
  );

  it.each(["gzip", "zstd"] as const)("tell the digest of what a %s layer uncompresses to", async (compression) => {
    const tar = pattern(10 * MiB);
    const plaintext = compression === "gzip" ? gzipSync(tar, { level: 0 }) : zstdCompressSync(tar);
    for (const pool of [undefined, threads, apart]) {
      const layer = await encrypt(plaintext, pool);
      const file = await decryptToFile(opening(layer), { source: { path: at("blob") }, targetPath: at("out"), threads: pool, compression });
      expect(file.uncompressed).toBe(sha256(tar));
      for (const name of ["blob", "out"]) rmSync(at(name));
    }
  });

  it("leave no target when a layer does not uncompress", async () => {
    const layer = await encrypt(pattern(9 * MiB));
    for (const pool of [undefined, threads, apart]) {
      const run = () =>
        decryptToFile(opening(layer), { source: { path: at("blob") }, targetPath: at("out"), threads: pool, compression: "gzip" });
      expect(await codeOf(run)).toBe("ERR_CIPHER_UNCOMPRESS");
    }
    expect(readdirSync(folder).sort()).toEqual(["blob", "plain"]);
  });

  it.each([100, 9 * MiB])("leave no target when a blob of %i bytes is changed, cut, or longer", async (size) => {
    const layer = await encrypt(pattern(size));
    const flipped = Buffer.from(layer.blob);
    flipped[size - 1] = (flipped[size - 1] ?? 0) ^ 1;
    const spoilt = [flipped, layer.blob.subarray(0, -1), Buffer.concat([layer.blob, Buffer.of(0)]), layer.blob.subarray(0, 20)];
    for (const blob of spoilt) {
      writeFileSync(at("spoilt"), blob);
      for (const pool of [undefined, threads, apart]) {
        const code = await codeOf(() =>
          decryptToFile(opening(layer), { source: { path: at("spoilt") }, targetPath: at("out"), threads: pool }),
        );
        expect(code).toMatch(/^ERR_CIPHER_(?:CHUNK_DAMAGED|SEGMENT_DAMAGED|MAC_MISMATCH|TRUNCATED|TRAILING_DATA)$/);
      }
    }
    expect(readdirSync(folder).sort()).toEqual(["blob", "plain", "spoilt"]);
  });

  it("leave no target when the source is not as long as declared", async () => {
    for (const [length, pool] of [[1000], [MiB, apart]] as const) {
      writeFileSync(at("plain"), pattern(length));
      for (const size of [length - 1, length + 1]) {
        const encryption = newEncryption({ cipher, mediaType });
        const run = () => encryptToFile(encryption, { source: { path: at("plain") }, targetPath: at("blob"), size, threads: pool });
        expect(await codeOf(run)).toBe("ERR_CIPHER_SIZE_MISMATCH");
      }
    }
    expect(readdirSync(folder)).toEqual(["plain"]);
  });

  it.each([
    ["shared", threads],
    ["alone", apart],
  ])("stop at a signal and leave no target, in a thread that is %s", async (_name, pool) => {
    writeFileSync(at("plain"), pattern(19 * MiB));
    const stop = new AbortController();
    const encryption = newEncryption({ cipher, mediaType });
    const run = encryptToFile(encryption, {
      source: { path: at("plain") },
      targetPath: at("blob"),
      size: 19 * MiB,
      threads: pool,
      signal: stop.signal,
      progress: () => stop.abort(new Error("enough")),
    });
    await expect(run).rejects.toThrow("enough");
    expect(readdirSync(folder)).toEqual(["plain"]);
  });

  it.each([0, 100, MiB, 9 * MiB + 5])("take %i bytes from a stream and give them to one", async (size) => {
    const plaintext = pattern(size);
    for (const pool of [undefined, threads]) {
      const encryption = newEncryption({ cipher, mediaType, plaintextSize: tags === "tagged" ? size : undefined });
      let told: unknown;
      const source = { verified: Readable.from(chunksOf(plaintext, 77_777)) };
      const blob = await read(encryptToStream(encryption, { source, size, threads: pool, check: (content) => (told = content) }));
      expect(told).toEqual({ plaintext: undefined, ciphertext: { digest: sha256(blob), size: blob.length } });
      const layer = { blob, publicOptions: encryption.publicOptions(), privateOptions: encryption.privateOptions };
      const file = await decryptToFile(opening(layer), {
        source: { verified: Readable.from(chunksOf(blob, 99_999)) },
        targetPath: at("out"),
        threads: pool,
        compression: "none",
      });
      expect(file).toEqual({ plaintext: { digest: sha256(plaintext), size }, ciphertext: undefined, uncompressed: sha256(plaintext) });
      expect(readFileSync(at("out")).equals(plaintext)).toBe(true);
      rmSync(at("out"));
    }
  });

  it("leave no target when their source fails, at its last byte too", async () => {
    const layer = await encrypt(pattern(9 * MiB));
    for (const good of [20, MiB, layer.blob.length]) {
      const source = Readable.from(
        (async function* () {
          yield layer.blob.subarray(0, good);
          throw new Error("the digest is another");
        })(),
      );
      const run = decryptToFile(opening(layer), { source: { verified: source }, targetPath: at("out"), threads });
      await expect(run).rejects.toThrow("the digest is another");
      expect(source.destroyed).toBe(true);
    }
    expect(readdirSync(folder).sort()).toEqual(["blob", "plain"]);
  });
});

describe("a stream of ciphertext", () => {
  it("never ends, and never gives its last piece, when the check refuses", async () => {
    writeFileSync(at("plain"), pattern(3 * MiB));
    const stream = encryptToStream(newEncryption({ cipher: gcm, mediaType, plaintextSize: 3 * MiB }), {
      source: { path: at("plain") },
      size: 3 * MiB,
      check: ({ plaintext }) => {
        expect(plaintext?.digest).toBe(sha256(pattern(3 * MiB)));
        throw new Error("not this one");
      },
    });
    let size = 0;
    const run = async () => {
      for await (const chunk of stream as AsyncIterable<Uint8Array>) size += chunk.length;
    };
    await expect(run()).rejects.toThrow("not this one");
    expect(size).toBeLessThan(3 * MiB);
  });

  it("lets go of its source when the reader leaves", async () => {
    const source = Readable.from(chunksOf(pattern(30 * MiB), MiB));
    const stream = encryptToStream(newEncryption({ cipher: gcm, mediaType, plaintextSize: 30 * MiB }), {
      source: { verified: source },
      size: 30 * MiB,
      threads,
      check: () => undefined,
    });
    for await (const _ of stream) break;
    await vi.waitFor(() => expect(source.destroyed).toBe(true));
  });
});

it("never overwrites a target, nor removes one that was there", async () => {
  writeFileSync(at("plain"), "new");
  writeFileSync(at("blob"), "old");
  const encryption = newEncryption({ cipher: gcm, mediaType });
  expect(await codeOf(() => encryptToFile(encryption, { source: { path: at("plain") }, targetPath: at("blob"), size: 3 }))).toBe(
    "ERR_CIPHER_FILE",
  );
  expect(readFileSync(at("blob"), "utf8")).toBe("old");
});

it("says which file cannot be read", async () => {
  const encryption = newEncryption({ cipher: gcm, mediaType });
  await expect(encryptToFile(encryption, { source: { path: at("absent") }, targetPath: at("blob"), size: 3 })).rejects.toThrow(
    at("absent"),
  );
  expect(existsSync(at("blob"))).toBe(false);
});

describe("stages with threads", () => {
  it.each(kinds)("give the same as without, %s", async (_, cipher, tags) => {
    const plaintext = pattern(10 * MiB + 3);
    const encryption = newEncryption({ cipher, mediaType, plaintextSize: plaintext.length, threads });
    const blob = await read(encryption.stage(chunksOf(plaintext, 100_000)));
    const tagged = encryption.publicOptions();
    const publicOptions = tags === "tagged" ? tagged : { ...tagged, cipheroptions: {} };
    const layer = { blob, publicOptions, privateOptions: encryption.privateOptions };
    expect((await read(await opening(layer).open(openerOf(blob)))).equals(plaintext)).toBe(true);
    const threaded = newDecryption({ ...layer, mediaType, ciphertextSize: blob.length, threads });
    expect((await read(await threaded.open(openerOf(blob, 77_777)))).equals(plaintext)).toBe(true);
    blob[9 * MiB] = (blob[9 * MiB] ?? 0) ^ 1;
    expect((await outcomeOf(() => threaded.open(openerOf(blob)))).code).toMatch(/DAMAGED/);
  });

  it("end with an error when their thread is gone", async () => {
    const pool = new CipherThreads({ threads: 1 });
    const encryption = newEncryption({ cipher: gcm, mediaType, plaintextSize: 20 * MiB, threads: pool });
    const source = async function* () {
      yield pattern(9 * MiB);
      await pool.close();
      yield pattern(11 * MiB);
    };
    expect((await outcomeOf(async () => encryption.stage(source()))).code).toBe("ERR_INTERNAL");
  });

  it("end with an error when their thread cannot start", async () => {
    const pool = new CipherThreads({ module: new URL("nowhere.js", import.meta.url) });
    const encryption = newEncryption({ cipher: gcm, mediaType, plaintextSize: 9 * MiB, threads: pool });
    expect((await outcomeOf(async () => encryption.stage(chunksOf(pattern(9 * MiB), MiB)))).code).toBe("ERR_INTERNAL");
    await pool.close();
  });

  it("are left early without harm", async () => {
    const layer = await sealed(gcm, pattern(12 * MiB));
    const threaded = newDecryption({ ...layer, mediaType, ciphertextSize: layer.blob.length, threads });
    const source = openerOf(layer.blob);
    for await (const chunk of await threaded.open(source)) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect((await read(await threaded.open(source))).length).toBe(12 * MiB);
  });
});
