import { join } from "node:path";
import { memoryStore, openLayout, openOciArchive } from "../../src/store/index.ts";
import { describeStore } from "./contract.ts";
import { temporaryFolder } from "./temporary.ts";

describeStore("memory", async () => ({ store: memoryStore(), end: async () => undefined }));

describeStore("a layout", async () => {
  const path = join(await temporaryFolder(), "layout");
  return { store: await openLayout({ path, mode: "write", durability: "none" }), end: async () => undefined };
});

describeStore("an archive that is being written", async () => {
  const path = join(await temporaryFolder(), "image.tar");
  return { store: await openOciArchive({ path, mode: "write" }), end: async () => undefined };
});
