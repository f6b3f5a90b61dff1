import { unpackImage } from "../../src/guest/index.ts";
import { openLayout } from "../../src/store/index.ts";

/** Run as a process of its own, to be killed: unpacks LAYOUT to TARGET and prints a line per event. */
const [, , layout = "", target = ""] = process.argv;
const store = await openLayout({ path: layout, mode: "read" });
const root = await store.resolve(undefined);
await unpackImage(
  { store, root, target, output: "rootfs", ownership: { kind: "rootless" } },
  { onEvent: ({ kind }) => process.stdout.write(`${kind}\n`) },
);
process.stdout.write("done\n");
