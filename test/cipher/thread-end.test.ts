import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { CipherThreads, decryptToFile, encryptToFile, newEncryption, type Compression } from "../../src/cipher/index.ts";
import { gcm, mediaType, opening, pattern } from "./layers.ts";

const MiB = 1 << 20;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-cipher-"));
});
afterEach(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

async function layerOf(plaintext: Buffer) {
  writeFileSync(at("plain"), plaintext);
  const encryption = newEncryption({ cipher: gcm, mediaType, plaintextSize: plaintext.length });
  await encryptToFile(encryption, { source: { path: at("plain") }, targetPath: at("blob"), size: plaintext.length });
  return opening({ blob: readFileSync(at("blob")), publicOptions: encryption.publicOptions(), privateOptions: encryption.privateOptions });
}

describe("threads that are closed while they work", () => {
  const zeros = gzipSync(Buffer.alloc(96 * MiB));
  const noise = pattern(24 * MiB);

  it.each<readonly [string, Compression, Buffer, CipherThreads]>([
    ["alone on a file", "none", noise, new CipherThreads({ total: 2 ** 40 })],
    ["alone on a file that it inflates", "gzip", zeros, new CipherThreads({ total: 2 ** 40 })],
    ["on pieces", "none", noise, new CipherThreads({ threads: 1 })],
  ])("%s end by themselves, and leave nothing", async (_name, compression, plaintext, threads) => {
    // In the middle of its work a thread may be anywhere in zlib, and Node.js does not survive that.
    const terminate = vi.spyOn(Worker.prototype, "terminate");
    const decryption = await layerOf(plaintext);
    let closed: Promise<void> | undefined;
    const run = decryptToFile(decryption, {
      source: { path: at("blob") },
      targetPath: at("out"),
      threads,
      compression,
      progress: () => void (closed ??= threads.close()),
    });
    await expect(run).rejects.toMatchObject({ code: "ERR_INTERNAL" });
    await closed;
    expect(readdirSync(folder).toSorted()).toEqual(["blob", "plain"]);
    expect(terminate).not.toHaveBeenCalled();
  });

  it("may be closed once more, and before they have started", async () => {
    const threads = new CipherThreads({ total: 2 ** 40 });
    await threads.close();
    await threads.close();
  });
});

describe("the collector of a thread", () => {
  it("is found though another thread took its flag away meanwhile", async () => {
    const collect = vi.fn<(options: unknown) => void>();
    const made = vi.fn<() => unknown>().mockReturnValueOnce(undefined).mockReturnValueOnce(undefined).mockReturnValue(collect);
    vi.doMock("node:vm", () => ({ runInNewContext: made }));
    vi.resetModules();
    const { minorCollector } = await import("../../src/cipher/minor-collector.ts");
    vi.doUnmock("node:vm");
    const passed = minorCollector();
    passed(3 * MiB);
    expect(collect).not.toHaveBeenCalled();
    passed(MiB);
    expect(collect).toHaveBeenCalledExactlyOnceWith({ type: "minor" });
    expect(made).toHaveBeenCalledTimes(3);
  });
});
