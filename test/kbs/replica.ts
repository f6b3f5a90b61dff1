import { openPostgresStore, parseRootKey, serveKbs } from "../../src/kbs/index.ts";

// One replica on a shared database; the test kills it.
const [, , database = "", rootKey = ""] = process.argv;
const server = await serveKbs({
  listen: { host: "127.0.0.1", port: 0 },
  store: await openPostgresStore({ connectionString: database, table: "replicas" }),
  rootKeys: [parseRootKey(rootKey)],
  mode: "development",
});
process.stdout.write(`${JSON.stringify({ url: server.url, adminToken: server.adminToken })}\n`);
