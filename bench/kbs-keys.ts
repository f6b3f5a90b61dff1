/**
 * A Key Broker Service with 100,000 keys, in a directory and in PostgreSQL: start, first page, a page in the middle, all
 * names. `node bench/kbs-keys.ts [COUNT]`; part of `make bench`.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { connectKbsAdmin, generateRootKey, openDirectoryStore, openPostgresStore, serveKbs, type SecretStore } from "../src/kbs/index.ts";
import { Keyring } from "../src/kbs/keys/keyring.ts";
import { serializeResource } from "../src/kbs/keys/resource-record.ts";
import { missingPostgres, startPostgres } from "../test/kbs/postgres.ts";
import { lineOf, type Measure } from "./rows.ts";

const name = "kbs-keys";
const goalStartMs = 2000;
const limits = { addressRate: { perSecond: 1e6, burst: 1e6 }, subjectRate: { perSecond: 1e6, burst: 1e6 } };

interface Keys {
  readonly count: number;
  readonly rootKey: ReturnType<typeof generateRootKey>;
}

function* records(keyring: Keyring, count: number): Generator<readonly [key: string, sealed: Buffer]> {
  const createdAt = new Date().toISOString();
  const version = {
    version: 1,
    state: "enabled",
    createdAt,
    createdBy: "bench",
    size: 32,
    value: { inline: Buffer.alloc(32, 1) },
  } as const;
  for (let i = 0; i < count; i += 1) {
    const path = `default/key-${i % 100}/${String(i).padStart(6, "0")}`;
    const document = {
      path,
      kind: "key",
      createdAt,
      createdBy: "bench",
      current: 1,
      released: 1,
      rotationDays: 30,
      versions: [version],
    } as const;
    yield [`resource/${path}`, keyring.seal(serializeResource(document), `resource/${path}`)];
  }
}

async function measure(where: string, open: () => Promise<SecretStore>, { count, rootKey }: Keys): Promise<readonly Measure[]> {
  const begin = performance.now();
  const server = await serveKbs({
    listen: { host: "127.0.0.1", port: 0 },
    store: await open(),
    rootKeys: [rootKey],
    mode: "production",
    limits,
  });
  const started = performance.now() - begin;
  const token = server.issueAdminToken({ subject: "bench", role: "admin", lifetimeSeconds: 600 });
  const admin = connectKbsAdmin({ url: server.url, token });
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    const from = performance.now();
    await work();
    return performance.now() - from;
  };
  const first = await timed(() => admin.keys.list({ limit: 100 }));
  const middle = await timed(() => admin.keys.list({ limit: 100, after: "default/key-50/000050" }));
  let seen = 0;
  const all = await timed(async () => {
    for (let after: string | undefined; ;) {
      const page = await admin.listResources({ limit: 1000, after });
      seen += page.resources.length;
      after = page.next;
      if (after === undefined) break;
    }
  });
  if (seen !== count) throw new Error(`${seen} names of ${count} were listed`);
  await admin.close();
  await server.close({ graceMs: 100 });
  const of = `${count} keys, ${where}`;
  const unit = "ms";
  return [
    { name, what: `${of}: start`, value: started, unit, goal: { most: goalStartMs } },
    { name, what: `${of}: first page of 100 keys`, value: first, unit },
    { name, what: `${of}: a page in the middle`, value: middle, unit },
    { name, what: `${of}: all names, by pages of 1000`, value: all, unit },
  ];
}

async function inDirectory(keys: Keys): Promise<readonly Measure[]> {
  const folder = mkdtempSync(join(tmpdir(), "ociseal-bench-keys-"));
  try {
    const path = join(folder, "store");
    const made = await openDirectoryStore(path);
    const keyring = await Keyring.open(made, [keys.rootKey]);
    for (let i = 0; i < 100; i += 1) mkdirSync(join(path, `records/resource/default/key-${i}`), { recursive: true });
    // Without the flush of each: it is the reading that is measured.
    for (const [key, sealed] of records(keyring, keys.count)) writeFileSync(join(path, "records", `${key}~`), sealed);
    await made.close();
    return await measure("directory", () => openDirectoryStore(path), keys);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function inPostgres(keys: Keys): Promise<readonly Measure[]> {
  if (missingPostgres()) return [];
  const database = await startPostgres();
  try {
    const connectionString = database.url;
    const store = await openPostgresStore({ connectionString });
    const keyring = await Keyring.open(store, [keys.rootKey]);
    await store.close();
    await fill(connectionString, records(keyring, keys.count));
    return await measure("PostgreSQL", () => openPostgresStore({ connectionString }), keys);
  } finally {
    await database.stop();
  }
}

async function fill(connectionString: string, sealed: Iterable<readonly [string, Buffer]>): Promise<void> {
  const client = new Client({ connectionString });
  await client.connect();
  let batch: (readonly [string, Buffer])[] = [];
  const flush = async (): Promise<void> => {
    await client.query("INSERT INTO ociseal_kbs_records (key, value) SELECT * FROM unnest($1::text[], $2::bytea[])", [
      batch.map(([key]) => key),
      batch.map(([, value]) => value),
    ]);
    batch = [];
  };
  for (const record of sealed) {
    batch.push(record);
    if (batch.length === 2000) await flush();
  }
  await flush();
  await client.end();
}

/** The stores; PostgreSQL is skipped aloud where it is not installed. */
const keyStores = { directory: inDirectory, PostgreSQL: inPostgres } as const;

/** Measures one of them with so many keys. */
export function benchKeys(store: keyof typeof keyStores, count: number): Promise<readonly Measure[]> {
  return keyStores[store]({ count, rootKey: generateRootKey() });
}

if (import.meta.main) {
  for (const store of ["directory", "PostgreSQL"] as const)
    for (const found of await benchKeys(store, Number(process.argv[2] ?? 100_000))) process.stdout.write(`${lineOf(found)}\n`);
}
