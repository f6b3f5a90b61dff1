import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { generateRootKey, openDirectoryStore } from "../../src/kbs/index.ts";
import { handshake, raw, startBench, type Bench } from "./harness.ts";

/** Whether a file system of a quarter of a megabyte can be had here. */
function mayMount(): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    execFileSync("unshare", ["-m", "mount", "-t", "tmpfs", "none", "/mnt"], { stdio: "ignore" });
    return true;
  } catch {
    // A container without the right to mount.
    return false;
  }
}

const possible = mayMount();
if (!possible) process.stderr.write("SKIPPED: tests with a full disk: this user cannot mount a tmpfs\n");

let folder: string;
let disk: string;
let bench: Bench | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-full-"));
  disk = join(folder, "disk");
  await mkdir(disk);
  if (possible) execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "none", disk]);
});
afterEach(async () => {
  await bench?.close();
  bench = undefined;
  if (possible) execFileSync("umount", [disk]);
  await rm(folder, { recursive: true });
});

const fill = async (): Promise<void> => {
  // In small pieces, down to the last page.
  for (const [size, count] of [
    [64 << 10, 8],
    [4 << 10, 64],
    [1, 8],
  ] as const) {
    for (let i = 0; i < count; i += 1) await writeFile(join(disk, `filler-${size}-${i}`), Buffer.alloc(size, 1)).catch(() => undefined);
  }
};
const free = async (): Promise<void> => {
  execFileSync("sh", ["-c", 'rm -f "$0"/filler-*', disk]);
};

describe.skipIf(!possible)("a full disk", () => {
  it("under the store: nothing is acknowledged that is not there, everything there is released, and it goes on when there is room", async () => {
    const rootKeys = [generateRootKey()] as const;
    bench = await startBench({ store: await openDirectoryStore(join(disk, "store")), rootKeys });
    const { url, adminToken } = bench.server;
    const headers = { authorization: `Bearer ${adminToken}` };
    await bench.admin.putResource("kbs:///a/b/before", Buffer.from("before"));
    await fill();
    const put = () => raw(`${url}/kbs/v0/resource/a/b/full`, { method: "POST", headers, body: Buffer.alloc(6000, 7) });
    expect(await put()).toMatchObject({ status: 503, json: { code: "storage-unavailable" } });
    expect((await raw(`${url}/readyz`)).status).toBe(503);
    expect((await bench.guest.fetchResource("kbs:///a/b/before")).toString()).toBe("before");
    expect((await raw(`${url}/api/v1/resources/a/b/full`, { headers })).status).toBe(404);
    await free();
    expect((await put()).status).toBe(200);
    expect((await raw(`${url}/readyz`)).status).toBe(200);
    await bench.close();
    bench = await startBench({ store: await openDirectoryStore(join(disk, "store")), rootKeys });
    expect((await bench.admin.getResource("kbs:///a/b/full")).equals(Buffer.alloc(6000, 7))).toBe(true);
  });

  it("under the audit log: nothing is released and nothing is changed, and the chain is whole when there is room again", async () => {
    bench = await startBench({ audit: { directory: join(disk, "audit") } });
    const { url, adminToken } = bench.server;
    const headers = { authorization: `Bearer ${adminToken}` };
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("value"));
    const { token } = await handshake(url);
    await fill();
    const release = () => raw(`${url}/kbs/v0/resource/a/b/c`, { headers: { authorization: `Bearer ${token}` } });
    const statuses: number[] = [];
    // The last page of the log's file may have room for a few records.
    for (let i = 0; i < 40; i += 1) statuses.push((await release()).status);
    expect(statuses.at(-1)).toBe(503);
    expect(statuses.indexOf(503)).toBeLessThan(20);
    expect(await raw(`${url}/kbs/v0/resource/a/b/c`, { method: "POST", headers, body: "changed" })).toMatchObject({
      status: 503,
      json: { code: "audit-unavailable" },
    });
    await free();
    expect((await release()).status).toBe(200);
    expect((await bench.admin.getResource("kbs:///a/b/c")).toString()).toBe("value");
    const { records } = await bench.admin.audit.read({ limit: 1000 });
    const released = records.filter(({ action, decision }) => action === "release" && decision === "allow").length;
    expect(released).toBe(statuses.filter((status) => status === 200).length + 1);
    expect(await bench.admin.audit.verify()).toMatchObject({ verdict: "intact" });
  });
});
