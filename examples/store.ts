// Copy an image from memory into an OCI layout folder, as skopeo would read it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { copyGraph, memoryStore, openLayout } from "ociseal/store";
import { putTinyImage } from "./tiny-image.ts";

const folder = await mkdtemp(join(tmpdir(), "example-"));
const from = memoryStore("memory:example");
const root = await putTinyImage(from);
const layout = await openLayout({ path: join(folder, "layout"), mode: "write" });
const { pushed } = await copyGraph({ from, to: layout, root, tags: ["app"] });
console.log("objects moved:", pushed, "tags:", await layout.tags());
await layout.close();
await rm(folder, { recursive: true });
