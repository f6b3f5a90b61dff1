import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CipherThreads, decryptToFile, encryptToFile, newEncryption } from "../../src/cipher/index.ts";
import { buildWork, type PieceResult, type PieceWork } from "../../src/cipher/runner.ts";
import { ctr, gcm, mediaType, opening, pattern } from "./layers.ts";

const MiB = 1 << 20;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-shared-writing-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);

/** A runner that seals chunks under a key of zeros. */
function sealing(path: string, start: number): Promise<PieceWork> {
  const plan = { kind: "seal-chunks", engine: "node", key: new Uint8Array(32), baseNonce: new Uint8Array(12) } as const;
  return buildWork({ ...plan, outputFile: { path, start } });
}

function runPiece(work: PieceWork, position: "inner" | "last", waited: number): Promise<PieceResult> {
  return work.run({ piece: { input: new ArrayBuffer(16384), output: new ArrayBuffer(16400 * 2) }, length: 16384, position }, waited);
}

describe("a runner with a file", () => {
  it("writes a piece that it had to wait for, where it belongs, and leaves others to its caller", async () => {
    writeFileSync(at("blob"), "head");
    const work = await sealing(at("blob"), 4);
    const results = [await runPiece(work, "inner", 5), await runPiece(work, "inner", 0), await runPiece(work, "last", 5)];
    work.close();
    work.close();
    expect(results.map(({ output }) => output)).toEqual(["filed", "returned", "filed"]);
    const [first, second, last] = results.map(({ piece, written }) => Buffer.from(piece.output, 0, written));
    const gap = Buffer.alloc(second?.length ?? 0);
    expect(readFileSync(at("blob")).equals(Buffer.concat([Buffer.from("head"), first ?? gap, gap, last ?? gap]))).toBe(true);
  });

  it("fails where it cannot write", async () => {
    const work = await sealing("/dev/full", 0);
    await expect(runPiece(work, "last", 5)).rejects.toMatchObject({ code: "ERR_CIPHER_FILE", message: expect.stringContaining("ENOSPC") });
    work.close();
    await expect(sealing(at("absent"), 0)).rejects.toMatchObject({ code: "ERR_CIPHER_FILE" });
  });
});

it.each([gcm, ctr] as const)("comes out the same whichever thread writes, %s", async (cipher) => {
  const plaintext = pattern(12 * MiB + 77);
  writeFileSync(at("plain"), plaintext);
  const threads = new CipherThreads({ threads: 1 });
  let calls = 0;
  // Now and then this thread is the slower one: the other writes then.
  const progress = (): void => {
    const until = performance.now() + ((calls += 1) % 3 === 0 ? 4 : 0);
    while (performance.now() < until);
  };
  const encryption = newEncryption({ cipher, mediaType, plaintextSize: plaintext.length });
  const request = { source: { path: at("plain") }, targetPath: at("blob"), size: plaintext.length, threads, progress };
  const { ciphertext } = await encryptToFile(encryption, request);
  const blob = readFileSync(at("blob"));
  expect(ciphertext.size).toBe(blob.length);
  const layer = { blob, publicOptions: encryption.publicOptions(), privateOptions: encryption.privateOptions };
  await decryptToFile(opening(layer), { source: { path: at("blob") }, targetPath: at("out"), threads, progress });
  expect(readFileSync(at("out")).equals(plaintext)).toBe(true);
  await threads.close();
});
