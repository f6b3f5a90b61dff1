/** A process of its own that signs one image with several keys at once. Arguments: host, repository, digest, size, key files. */
import { readFileSync } from "node:fs";
import { mediaTypes } from "../../src/oci/index.ts";
import { openRegistry } from "../../src/registry/index.ts";
import { parseDigest } from "../../src/bytes/index.ts";
import { loadSigner, signImage } from "../../src/signing/index.ts";

const [host = "", repository = "", digest = "", size = "", format = "both", ...keys] = process.argv.slice(2);
const target = { mediaType: mediaTypes.manifest, digest: parseDigest(digest), size: Number(size) };
await Promise.all(
  keys.map(async (file) => {
    const store = openRegistry({ host, repository });
    const signer = await loadSigner({ pem: readFileSync(file), source: file });
    await signImage({ store, target, reference: `${host}/${repository}`, signer, format: format as "both", now: new Date(0) });
    await store.close();
  }),
);
