/** A Key Broker Service with 100,000 keys, in a directory and in PostgreSQL: start, first page, a page in the middle, all pages. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { connectKbsAdmin, generateRootKey, openDirectoryStore, openPostgresStore, serveKbs, type SecretStore } from "../src/kbs/index.ts";
import { Keyring } from "../src/kbs/keys/keyring.ts";
import { serializeResource } from "../src/kbs/keys/resource-record.ts";
import { missingPostgres, startPostgres } from "../test/kbs/postgres.ts";

const count = Number(process.argv[2] ?? 100_000);
const limits = { addressRate: { perSecond: 1e6, burst: 1e6 }, subjectRate: { perSecond: 1e6, burst: 1e6 } };
const rootKey = generateRootKey();
const folder = mkdtempSync(join(tmpdir(), "ociseal-bench-keys-"));

function* records(keyring: Keyring): Generator<readonly [key: string, sealed: Buffer]> {
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

async function measure(name: string, open: () => Promise<SecretStore>): Promise<void> {
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
  const timed = async (work: () => Promise<unknown>): Promise<string> => {
    const from = performance.now();
    await work();
    return (performance.now() - from).toFixed(0);
  };
  const first = await timed(() => admin.keys.list({ limit: 100 }));
  const middle = await timed(() => admin.keys.list({ limit: 100, after: "default/key-50/000050" }));
  const scrape = await timed(() => admin.system.metrics());
  let seen = 0;
  const all = await timed(async () => {
    for (let after: string | undefined; ;) {
      const page = await admin.listResources({ limit: 1000, after });
      seen += page.resources.length;
      after = page.next;
      if (after === undefined) break;
    }
  });
  console.log(
    `${name}, ${count} keys: start ${started.toFixed(0)} ms (goal 2000), first page of 100 keys ${first} ms, a page in the middle ${middle} ms, metrics ${scrape} ms, ${seen} names by pages of 1000 ${all} ms, resident ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB`,
  );
  await admin.close();
  await server.close({ graceMs: 100 });
}

try {
  const path = join(folder, "store");
  const made = await openDirectoryStore(path);
  const keyring = await Keyring.open(made, [rootKey]);
  for (let i = 0; i < 100; i += 1) mkdirSync(join(path, `records/resource/default/key-${i}`), { recursive: true });
  // Without the flush of each: it is the reading that is measured.
  for (const [key, sealed] of records(keyring)) writeFileSync(join(path, "records", `${key}~`), sealed);
  await made.close();
  await measure("directory", () => openDirectoryStore(path));
  if (!missingPostgres()) {
    const database = await startPostgres();
    try {
      const store = await openPostgresStore({ connectionString: database.url });
      const ring = await Keyring.open(store, [rootKey]);
      await store.close();
      const client = new Client({ connectionString: database.url });
      await client.connect();
      let batch: (readonly [string, Buffer])[] = [];
      const flush = async (): Promise<void> => {
        await client.query("INSERT INTO ociseal_kbs_records (key, value) SELECT * FROM unnest($1::text[], $2::bytea[])", [
          batch.map(([key]) => key),
          batch.map(([, sealed]) => sealed),
        ]);
        batch = [];
      };
      for (const record of records(ring)) {
        batch.push(record);
        if (batch.length === 2000) await flush();
      }
      await flush();
      await client.end();
      await measure("PostgreSQL", () => openPostgresStore({ connectionString: database.url }));
    } finally {
      await database.stop();
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
