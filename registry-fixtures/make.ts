/** `make fixtures`: writes golden.json anew. A change of it is a change of bytes that others may hold: its own commit. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { goldenDigests } from "./golden.ts";

const document = {
  provenance: "make fixtures (registry-fixtures/golden.ts): made from entries in this repository, with stored deflate blocks and no times",
  images: await goldenDigests(),
};
writeFileSync(join(import.meta.dirname, "golden.json"), `${JSON.stringify(document, undefined, 2)}\n`);
