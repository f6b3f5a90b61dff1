import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { backupStore, openKbsConfig, parseKbsConfig, restoreStore, type SecretStore } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { readSmallFile, writeStreamWhole } from "../files.ts";
import type { Shell } from "../shell.ts";
import { counted } from "../table.ts";

interface StoreOptions {
  readonly config: string;
}

async function withStore<Result>(shell: Shell, { config }: StoreOptions, work: (store: SecretStore) => Promise<Result>): Promise<Result> {
  const parsed = parseKbsConfig((await readSmallFile(config, "configuration")).toString("utf8"));
  const { store } = await openKbsConfig(parsed, { environment: (name) => shell.env[name] });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

export const backup: Action<StoreOptions> = async (shell, [file = ""], options) => {
  await withStore(shell, options, (store) => writeStreamWhole(file, Readable.from(backupStore(store, new Date())), { mode: 0o600 }));
  await shell.result(`the store is in ${file}; without its root key nobody can read it`, { file });
};

export const restore: Action<StoreOptions> = async (shell, [file = ""], options) => {
  const report = await withStore(shell, options, (store) => restoreStore(store, () => createReadStream(file)));
  await shell.result(`restored ${counted(report.records, "record")}`, report);
};
