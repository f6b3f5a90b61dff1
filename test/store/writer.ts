// A process of its own: `node writer.ts LAYOUT NAME` puts one image into a layout and tags it.
import { openLayout } from "../../src/store/index.ts";
import { putImage } from "./images.ts";

const [path = "", name = ""] = process.argv.slice(2);
const store = await openLayout({ path, mode: "write" });
await store.tag(await putImage(store), name);
await store.close();
