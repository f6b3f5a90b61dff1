import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { generateRootKey, openDirectoryStore, openMemoryStore, openRootKeyFile, serveKbs, type RootKey } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { writeWholeFile } from "../files.ts";
import { parseListen, untilAborted } from "../listen.ts";

interface ServeOptions {
  readonly listen: string;
  readonly data?: string;
  readonly config?: string;
  readonly dev?: boolean;
}

async function rootKeyIn(data: string): Promise<RootKey> {
  await mkdir(data, { recursive: true, mode: 0o700 });
  return openRootKeyFile(join(data, "root.key"), { ifMissing: "create" });
}

/** Serves until interrupted; being interrupted is the normal end. */
export const kbsServe: Action<ServeOptions> = async (shell, _args, { listen, data, dev = false }) => {
  if (data === undefined && !dev)
    throw usage(
      "nothing says where the service keeps its data",
      "give --data DIR or --config FILE; --dev alone keeps everything in memory",
    );
  const store = data === undefined ? openMemoryStore() : await openDirectoryStore(join(data, "store"));
  const rootKey = data === undefined ? generateRootKey() : await rootKeyIn(data);
  const server = await serveKbs({
    listen: parseListen(listen),
    store,
    rootKeys: [rootKey],
    mode: dev ? "development" : "production",
    log: (event) => shell.note(JSON.stringify(event)),
  });
  try {
    const { adminToken } = server;
    const adminTokenFile = adminToken === undefined ? undefined : join(data ?? ".", "admin.token");
    if (adminToken !== undefined && adminTokenFile !== undefined) await writeWholeFile(adminTokenFile, `${adminToken}\n`, { mode: 0o600 });
    if (dev) shell.warn("development mode: the sample TEE, which proves nothing, gets every key while no policy is set");
    const document = { listening: server.url, data: data ?? "memory", ...(adminTokenFile === undefined ? {} : { adminTokenFile }) };
    await shell.result(JSON.stringify(document), document);
    await untilAborted(shell.signal);
  } finally {
    await server.close();
  }
};
