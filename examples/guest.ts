// Unpack an image into a folder: whole, or not at all.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpackImage } from "ociseal/guest";
import { memoryStore } from "ociseal/store";
import { putTinyImage } from "./tiny-image.ts";

const folder = await mkdtemp(join(tmpdir(), "example-"));
const store = memoryStore("memory:example");
const root = await putTinyImage(store);
const target = join(folder, "rootfs");
await unpackImage({ store, root, target, output: "rootfs", ownership: { kind: "rootless" } });
console.log("unpacked:", await readFile(join(target, "hello.txt"), "utf8"));
await rm(folder, { recursive: true });
