import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sampleAttester } from "../../src/attestation/index.ts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  connectKbs,
  connectKbsAdmin,
  openDirectoryStore,
  openRootKeyFile,
  serveKbs,
  type KbsAdmin,
  type KbsClient,
  type KbsServer,
} from "../../src/kbs/index.ts";

let folder: string;
let server: KbsServer;
let admin: KbsAdmin;
let guest: KbsClient;

async function start(): Promise<void> {
  server = await serveKbs({
    listen: { host: "127.0.0.1", port: 0 },
    store: await openDirectoryStore(join(folder, "data")),
    rootKeys: [await openRootKeyFile(join(folder, "root.key"), { ifMissing: "create" })],
    mode: "development",
  });
  admin = connectKbsAdmin({ url: server.url, token: server.adminToken ?? "" });
  guest = connectKbs({ url: server.url, attester: sampleAttester() });
}

async function stop(): Promise<void> {
  await guest.close();
  await admin.close();
  await server.close();
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-handshake-"));
  await start();
});

afterEach(async () => {
  await stop();
  await rm(folder, { recursive: true });
});

describe("a guest and an administrator at a development service", () => {
  it("gives an attested guest what the administrator registered", async () => {
    const { key, outcome, proof } = await admin.registerKey("kbs:///default/image-key/app");
    expect([key.length, outcome, proof]).toEqual([32, "created", "confirmed"]);
    expect(await guest.fetchResource("kbs:///default/image-key/app")).toEqual(key);
  });

  it("finds the key that is there already", async () => {
    const first = await admin.registerKey("kbs:///default/image-key/app");
    const second = await admin.registerKey("kbs:///default/image-key/app");
    expect([second.outcome, second.proof]).toEqual(["present", "read-back"]);
    expect(second.key).toEqual(first.key);
  });

  it("keeps what it acknowledged over a restart", async () => {
    const { key } = await admin.registerKey("kbs:///default/image-key/app");
    await stop();
    await start();
    expect(await guest.fetchResource("kbs:///default/image-key/app")).toEqual(key);
    expect(await admin.getResource("kbs:///default/image-key/app")).toEqual(key);
  });

  it("stores values of 0 bytes and of 2 MiB", async () => {
    for (const size of [0, 8 << 10, (8 << 10) + 1, 2 << 20]) {
      const value = Buffer.alloc(size, 0xa5);
      await admin.putResource(`kbs:///default/value/size-${size}`, value);
      expect((await guest.fetchResource(`kbs:///default/value/size-${size}`)).equals(value)).toBe(true);
    }
  });

  it("names what is not there, and lists and deletes what is", async () => {
    await expect(guest.fetchResource("kbs:///default/image-key/typo")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
    await admin.putResource("kbs:///a/b/c", Buffer.from("1"));
    await admin.putResource("kbs:///a/b/d", Buffer.from("2"));
    expect(await admin.listResources({ prefix: "a/b" })).toEqual({ resources: ["a/b/c", "a/b/d"], next: undefined });
    await admin.deleteResource("kbs:///a/b/c");
    expect((await admin.listResources()).resources).toEqual(["a/b/d"]);
    await expect(admin.deleteResource("kbs:///a/b/c")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
  });

  it("refuses an administrator without a valid token", async () => {
    const stranger = connectKbsAdmin({ url: server.url, token: "not-a-token" });
    await expect(stranger.putResource("kbs:///a/b/c", Buffer.from("1"))).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await stranger.close();
  });

  it("lets a token that may only create prove what it created, and nothing else", async () => {
    const token = server.issueAdminToken({
      subject: "ci",
      role: "publisher",
      grants: [{ actions: ["resource:create"], paths: ["default/image-key/**"] }],
      lifetimeSeconds: 60,
    });
    const ci = connectKbsAdmin({ url: server.url, token });
    expect((await ci.registerKey("kbs:///default/image-key/new")).proof).toBe("confirmed");
    await admin.registerKey("kbs:///default/image-key/other");
    await expect(ci.registerKey("kbs:///default/image-key/other")).rejects.toMatchObject({ code: "ERR_KBS_CONFLICT" });
    await expect(ci.proveResource("kbs:///default/image-key/other", Buffer.alloc(32))).rejects.toMatchObject({
      code: "ERR_KBS_REGISTRATION_UNPROVED",
    });
    await expect(ci.getResource("kbs:///default/image-key/new")).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await expect(ci.putResource("kbs:///default/image-key/new", Buffer.alloc(32))).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await expect(ci.putResource("kbs:///default/other/new", Buffer.alloc(32))).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await ci.close();
  });
});

describe("a production service", () => {
  it("refuses the sample TEE", async () => {
    const strict = await serveKbs({
      listen: { host: "127.0.0.1", port: 0 },
      store: await openDirectoryStore(join(folder, "strict")),
      mode: "production",
    });
    const client = connectKbs({ url: strict.url, attester: sampleAttester() });
    await expect(client.fetchResource("kbs:///a/b/c")).rejects.toMatchObject({ code: "ERR_KBS_ATTESTATION_REFUSED" });
    await client.close();
    await strict.close();
  });
});
