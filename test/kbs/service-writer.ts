import { openDirectoryStore, parseRootKey, serveKbs } from "../../src/kbs/index.ts";

// A service on a folder, with its audit log beside; the test kills it.
const [, , folder = "", rootKey = ""] = process.argv;
const server = await serveKbs({
  listen: { host: "127.0.0.1", port: 0 },
  store: await openDirectoryStore(`${folder}/store`),
  rootKeys: [parseRootKey(rootKey)],
  audit: { directory: `${folder}/audit`, checkpointEvery: 7, maxFileBytes: 8000 },
  mode: "development",
});
process.stdout.write(`${JSON.stringify({ url: server.url, adminToken: server.adminToken })}\n`);
