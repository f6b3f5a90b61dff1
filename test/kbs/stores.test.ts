import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDirectoryStore, openKubernetesStore, openMemoryStore, openVaultStore, type SecretStore } from "../../src/kbs/index.ts";
import { openPostgresStore } from "../../src/kbs/stores/postgres-store.ts";
import { type FakeVault, startFakeVault } from "./fake-vault.ts";
import { startFakeKubernetes, type Fake } from "./fakes.ts";
import { missingKubernetes, startKubernetes, type TestKubernetes } from "../kubernetes.ts";
import { missingVault, startVault, type TestVault } from "../vault.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingPostgres, startPostgres, type TestPostgres } from "./postgres.ts";

let folder: string;
let postgres: TestPostgres | undefined;
let vault: FakeVault;
let kubernetes: Fake;
let cluster: TestKubernetes | undefined;
let realVault: TestVault | undefined;
let serial = 0;
const children: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-stores-"));
  vault = await startFakeVault();
  kubernetes = await startFakeKubernetes(() => "service-account");
  await writeFile(join(folder, "token"), "service-account\n");
  postgres = missingPostgres() ? undefined : await startPostgres();
  realVault = missingVault() ? undefined : await startVault();
  cluster = missingKubernetes() ? undefined : await startKubernetes();
  await cluster?.call("POST", "/api/v1/namespaces", { metadata: { name: "kbs" } });
});

afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await postgres?.stop();
  await cluster?.stop();
  await realVault?.stop();
  await vault.close();
  await kubernetes.close();
  await rm(folder, { recursive: true });
});

const kinds: readonly { readonly name: string; readonly skip: boolean; open: () => Promise<SecretStore> }[] = [
  { name: "memory", skip: false, open: () => Promise.resolve(openMemoryStore()) },
  { name: "a directory", skip: false, open: () => openDirectoryStore(join(folder, `store-${(serial += 1)}`)) },
  {
    name: "Vault (imitated)",
    skip: false,
    open: () => Promise.resolve(openVaultStore({ url: vault.url, login: { kind: "token", token: "root" }, folder: `f${(serial += 1)}` })),
  },
  {
    name: "Vault (a real server)",
    skip: missingVault(),
    open: () => {
      const { url = "", rootToken = "" } = realVault ?? {};
      const login = { kind: "token", token: rootToken } as const;
      return Promise.resolve(openVaultStore({ url, login, authorities: caCertificate, folder: `f${(serial += 1)}` }));
    },
  },
  {
    name: "Kubernetes (imitated)",
    skip: false,
    open: () =>
      Promise.resolve(
        openKubernetesStore({ url: kubernetes.url, namespace: "kbs", tokenFile: join(folder, "token"), instance: `i${(serial += 1)}` }),
      ),
  },
  {
    name: "Kubernetes (a real API server)",
    skip: missingKubernetes(),
    open: async () => {
      const { url = "", authorityFile = "", adminTokenFile = "" } = cluster ?? {};
      const authorities = await readFile(authorityFile, "utf8");
      return openKubernetesStore({ url, namespace: "kbs", tokenFile: adminTokenFile, authorities, instance: `i${(serial += 1)}` });
    },
  },
  {
    name: "PostgreSQL",
    skip: missingPostgres(),
    open: () => openPostgresStore({ connectionString: postgres?.url ?? "", table: `records_${(serial += 1)}` }),
  },
];

describe.each(kinds)("a store in $name", ({ open, skip }) => {
  it.skipIf(skip)("keeps, replaces, lists by page and removes", async () => {
    const store = await open();
    expect(await store.read("a/b")).toBeUndefined();
    const first = await store.write("a/b", Buffer.from("1"), { kind: "absent" });
    expect(first).not.toBe("conflict");
    expect((await store.read("a/b"))?.bytes.toString()).toBe("1");
    for (const key of ["a/b/c", "a/bc", "a/B", "z"]) await store.write(key, Buffer.from(key), { kind: "any" });
    expect((await store.list({ prefix: "a", limit: 10 })).keys).toEqual(["a/B", "a/b", "a/b/c", "a/bc"]);
    expect((await store.list({ prefix: "a/b", limit: 10 })).keys).toEqual(["a/b", "a/b/c"]);
    const page = await store.list({ prefix: "", limit: 2 });
    expect(page).toEqual({ keys: ["a/B", "a/b"], next: "a/b" });
    expect(await store.list({ prefix: "", limit: 3, after: page.next })).toEqual({ keys: ["a/b/c", "a/bc", "z"], next: undefined });
    expect(await store.remove("a/b", { kind: "any" })).toBe("removed");
    expect(await store.remove("a/b", { kind: "any" })).toBe("absent");
    expect(await store.read("a/b")).toBeUndefined();
    await store.probe();
    await store.close();
  });

  it.skipIf(skip)("writes only what its condition allows", async () => {
    const store = await open();
    const written = await store.write("k", Buffer.from("1"), { kind: "absent" });
    expect(await store.write("k", Buffer.from("2"), { kind: "absent" })).toBe("conflict");
    const revision = written === "conflict" ? "" : written.revision;
    const second = await store.write("k", Buffer.from("2"), { kind: "revision", revision });
    expect(second).not.toBe("conflict");
    expect(await store.write("k", Buffer.from("3"), { kind: "revision", revision })).toBe("conflict");
    expect(await store.remove("k", { kind: "revision", revision })).toBe("conflict");
    expect(await store.write("absent", Buffer.from("3"), { kind: "revision", revision })).toBe("conflict");
    expect((await store.read("k"))?.bytes.toString()).toBe("2");
    await store.close();
  });

  it.skipIf(skip)("lets exactly one of many writers win", async () => {
    const store = await open();
    const creations = await Promise.all(
      Array.from({ length: 8 }, (_, i) => store.write("race", Buffer.from(String(i)), { kind: "absent" })),
    );
    expect(creations.filter((outcome) => outcome !== "conflict")).toHaveLength(1);
    const revision = (await store.read("race"))?.revision ?? "";
    const changes = await Promise.all(
      Array.from({ length: 8 }, (_, i) => store.write("race", Buffer.from(`x${i}`), { kind: "revision", revision })),
    );
    expect(changes.filter((outcome) => outcome !== "conflict")).toHaveLength(1);
    await store.close();
  });

  it.skipIf(skip)("gives back any bytes, from none to megabytes", async () => {
    const store = await open();
    for (const size of [0, 1, 4095, 900_000]) {
      const bytes = Buffer.alloc(size, 0xee);
      await store.write("bytes", bytes, { kind: "any" });
      expect((await store.read("bytes"))?.bytes.equals(bytes)).toBe(true);
    }
    await store.close();
  });

  it.skipIf(skip)("behaves like a map under any sequence of acts", async () => {
    const store = await open();
    const key = fc.constantFrom("m/a", "m/a/b", "m/c");
    const act = fc.oneof(
      fc.record({ kind: fc.constant("put" as const), key, value: fc.uint8Array({ maxLength: 20 }) }),
      fc.record({ kind: fc.constant("remove" as const), key, value: fc.constant(new Uint8Array()) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 12 }), async (acts) => {
        const model = new Map<string, string>();
        for (const existing of (await store.list({ prefix: "m", limit: 100 })).keys) await store.remove(existing, { kind: "any" });
        for (const { kind, key, value } of acts) {
          const outcome = kind === "put" ? await store.write(key, value, { kind: "any" }) : await store.remove(key, { kind: "any" });
          const existed = kind === "put" ? "written" : model.delete(key) ? "removed" : "absent";
          if (kind === "put") model.set(key, Buffer.from(value).toString("hex"));
          expect(typeof outcome === "string" ? outcome : "written").toBe(existed);
        }
        expect((await store.list({ prefix: "m", limit: 100 })).keys).toEqual([...model.keys()].sort());
        for (const [key, hex] of model) expect((await store.read(key))?.bytes.toString("hex")).toBe(hex);
      }),
      { numRuns: 10 },
    );
    await store.close();
  });
});

describe("a directory store", () => {
  it("lists the truth while others write and remove", async () => {
    const path = join(folder, "listed");
    const first = await openDirectoryStore(path);
    for (let i = 0; i < 40; i += 1) await first.write(`l/${i}`, Buffer.from("x"), { kind: "any" });
    await first.close();
    const store = await openDirectoryStore(path);
    const list = async () => (await store.list({ prefix: "l", limit: 1000 })).keys;
    const changes = Array.from({ length: 40 }, (_, i) =>
      i % 2 === 0 ? store.remove(`l/${i}`, { kind: "any" }) : store.write(`l/new-${i}`, Buffer.from("y"), { kind: "absent" }),
    );
    await Promise.all([list(), list(), ...changes, list()]);
    const expected = Array.from({ length: 20 }, (_, i) => [`l/${2 * i + 1}`, `l/new-${2 * i + 1}`])
      .flat()
      .sort();
    expect(await list()).toEqual(expected);
    await store.close();
  });

  it("never gives an old record back that a reading met on its way", async () => {
    const store = await openDirectoryStore(join(folder, "cache"));
    for (let round = 0; round < 50; round += 1) {
      const value = Buffer.from(`value ${round}`);
      const early = [store.read("a/b"), store.read("a/b")];
      const written = store.write("a/b", value, { kind: "any" });
      const during = [store.read("a/b"), store.read("a/c")];
      await written;
      expect((await store.read("a/b"))?.bytes).toEqual(value);
      await Promise.all([...early, ...during]);
      expect((await store.read("a/b"))?.bytes).toEqual(value);
      await store.remove("a/b", { kind: "any" });
      expect(await store.read("a/b")).toBeUndefined();
    }
    await store.close();
  });

  it("belongs to one process, and is free again when that process is killed", async () => {
    const path = join(folder, "locked");
    const child = startWriter(path);
    await firstLine(child);
    await expect(openDirectoryStore(path)).rejects.toMatchObject({ code: "ERR_KBS_STORE_LOCKED", category: "unavailable" });
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    await (await openDirectoryStore(path)).close();
  });

  it("holds every acknowledged write, whole, when its process is killed at any moment", async () => {
    const path = join(folder, "killed");
    for (let round = 0; round < 10; round += 1) {
      const child = startWriter(path);
      const ended = new Promise((resolve) => child.once("exit", resolve));
      let acknowledged = "";
      const begun = new Promise<void>((resolve) => {
        child.stdout?.on("data", (chunk: Buffer) => {
          acknowledged += chunk.toString();
          if (acknowledged.split("\n").length > 5) resolve();
        });
      });
      await begun;
      // Whatever it is doing then: a write takes some milliseconds, and the moment is drawn anew in each round.
      await wait(Math.random() * 25);
      child.kill("SIGKILL");
      await ended;
      const store = await openDirectoryStore(path);
      const last = new Map<string, number>();
      for (const line of acknowledged.split("\n").slice(0, -1)) {
        const [key = "", value = ""] = line.split(" ");
        if (key !== "ready") last.set(key, Number(value));
      }
      expect(last.size).toBeGreaterThan(0);
      for (const [key, value] of last) {
        const text = (await store.read(key))?.bytes.toString() ?? "";
        const [number = "", ...rest] = text.split(":");
        expect(Number(number)).toBeGreaterThanOrEqual(value);
        expect(rest.join(":")).toBe("x".repeat(20_000));
      }
      await store.close();
    }
  });
});

function startWriter(path: string): ChildProcess {
  const child = spawn(process.execPath, [join(import.meta.dirname, "store-writer.ts"), path], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

function firstLine(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => child.stdout?.once("data", () => resolve()));
}

describe("a store in Vault", () => {
  it("logs in, and once more when its token was revoked", async () => {
    const store = openVaultStore({ url: vault.url, login: { kind: "approle", roleId: "kbs", secretId: "s3cret" }, folder: "login" });
    await store.write("a/b", Buffer.from("1"), { kind: "absent" });
    vault.tokens.clear();
    expect((await store.read("a/b"))?.bytes.toString()).toBe("1");
    vault.tokens.add("root");
    await store.close();
  });

  it("is unavailable when it is sealed, when the login fails and when it is gone", async () => {
    const wrong = openVaultStore({ url: vault.url, login: { kind: "approle", roleId: "kbs", secretId: "wrong" }, folder: "login" });
    await expect(wrong.read("a/b")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    const store = openVaultStore({ url: vault.url, login: { kind: "token", token: "root" } });
    vault.outage = 503;
    await expect(store.read("a/b")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await expect(store.probe()).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE", message: expect.stringContaining("sealed") });
    vault.outage = undefined;
    const gone = openVaultStore({ url: "http://127.0.0.1:1", login: { kind: "token", token: "root" } });
    await expect(gone.read("a/b")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    expect(() => openVaultStore({ url: "http://vault.example:8200", login: { kind: "token", token: "root" } })).toThrow(
      expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }),
    );
  });
});

describe("a store in PostgreSQL", () => {
  it.skipIf(missingPostgres())(
    "is unavailable while the server is down, and comes back with everything that was acknowledged",
    async () => {
      const database = postgres;
      const store = await openPostgresStore({ connectionString: database?.url ?? "", table: "outage" });
      await store.write("a/b", Buffer.from("1"), { kind: "absent" });
      await database?.kill();
      await expect(store.read("a/b")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
      await expect(store.write("a/c", Buffer.from("1"), { kind: "any" })).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
      await database?.start();
      expect((await store.read("a/b"))?.bytes.toString()).toBe("1");
      await store.close();
    },
  );
});
