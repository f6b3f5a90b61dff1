// What a manifest says about an encrypted layer, without any key.
import { describeEncryption, isEncryptedLayer } from "ociseal/layer";
import { generateKeyPairSync } from "node:crypto";
import { jweWrapper, parsePublicKey } from "ociseal/keywrap";
import { encryptImage } from "ociseal/pipeline";
import { memoryStore, readManifest } from "ociseal/store";
import { putTinyImage } from "./tiny-image.ts";

const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrappers = [jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) })];
const store = memoryStore("memory:example");
const root = await putTinyImage(store);
await encryptImage({ from: store, root, to: { store, reference: "sealed" }, cipher: "AES_256_GCM_C2SP_CHUNKED_V1", wrappers });
const { manifest } = await readManifest(store, await store.resolve("sealed"));
for (const layer of manifest.layers)
  console.log(
    isEncryptedLayer(layer),
    describeEncryption(layer)?.recipients.map(({ kind }) => kind),
  );
