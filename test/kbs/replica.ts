import { readFile } from "node:fs/promises";
import { openKbsConfig, parseKbsConfig, serveKbs } from "../../src/kbs/index.ts";

// One replica with a configuration file, on a store that it shares; the test kills it.
const [, , file = ""] = process.argv;
const config = parseKbsConfig(await readFile(file, "utf8"));
const server = await serveKbs(await openKbsConfig(config, { environment: (name) => process.env[name] }));
process.stdout.write(`${JSON.stringify({ url: server.url, adminToken: server.adminToken })}\n`);
