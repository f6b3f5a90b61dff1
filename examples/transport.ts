// Copy between any two names, with everything that refers to the image.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseImageName } from "ociseal/oci";
import { RegistryTransport } from "ociseal/registry";
import { openLayout } from "ociseal/store";
import { copyImage } from "ociseal/transport";
import { putTinyImage } from "./tiny-image.ts";

const folder = await mkdtemp(join(tmpdir(), "example-"));
const layout = await openLayout({ path: join(folder, "layout"), mode: "write" });
await putTinyImage(layout);
await layout.close();
const transport = new RegistryTransport();
const { root } = await copyImage({
  source: parseImageName(`oci:${folder}/layout:app`),
  destination: parseImageName(`oci-archive:${folder}/app.tar:app`),
  transport,
  referrers: "follow",
});
console.log("copied", root.mediaType);
await transport.close();
await rm(folder, { recursive: true });
