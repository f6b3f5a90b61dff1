import { pullImage, type PullOutput } from "../../src/guest/index.ts";
import { brokerUnwrapper } from "../../src/keywrap/index.ts";
import { openLayout, type ContentReader } from "../../src/store/index.ts";

/** Run as a process of its own, to be killed: pulls LAYOUT to TARGET with a layer cache and a record. */
const [, , layout = "", target = "", output = "", layerCache = "", recordFile = ""] = process.argv;
const local = await openLayout({ path: layout, mode: "read" });
/** As from a registry: a file that is at hand would not go into the cache. */
const store: ContentReader = {
  name: local.name,
  resolve: (reference, options) => local.resolve(reference, options),
  fetch: (wanted, options) => local.fetch(wanted, options),
  exists: (wanted, options) => local.exists(wanted, options),
  referrers: (subject, filter) => local.referrers(subject, filter),
  tags: (options) => local.tags(options),
  localPath: () => undefined,
  close: () => local.close(),
};
process.stdout.write("started\n");
await pullImage({
  store,
  reference: "it",
  target,
  output: output as PullOutput,
  ownership: { kind: process.geteuid?.() === 0 ? "preserve" : "rootless" },
  layerCache,
  recordFile,
  readAhead: { segmentBytes: 100_000 },
  verification: { kind: "insecure-accept-unsigned" },
  openKeys: async () => [
    brokerUnwrapper({ name: "test KBS", reach: "remote", broker: { fetchKey: () => Promise.resolve(Buffer.alloc(32, 7)) } }),
  ],
});
process.stdout.write("done\n");
