// Encrypt an image for a public key, look at it without a key, and decrypt it again.
import { generateKeyPairSync } from "node:crypto";
import {
  decryptImage,
  describeImage,
  encryptImage,
  jweWrapper,
  memoryStore,
  parsePrivateKey,
  parsePublicKey,
  privateKeyUnwrapper,
} from "ociseal";
import { putTinyImage } from "./tiny-image.ts";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const recipient = parsePublicKey(publicKey.export({ format: "der", type: "spki" }));
const holder = privateKeyUnwrapper([parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }))]);

const store = memoryStore("memory:example");
const plain = await putTinyImage(store);
await encryptImage({
  from: store,
  root: plain,
  to: { store, reference: "sealed" },
  cipher: "AES_256_GCM_C2SP_CHUNKED_V1",
  wrappers: [jweWrapper({ publicKey: recipient })],
});
const sealed = await store.resolve("sealed");
const { platforms } = await describeImage({ store, root: sealed });
console.log("encrypted with", platforms[0]?.layers[0]?.encryption?.cipher);
const { result } = await decryptImage({ from: store, root: sealed, to: { store, reference: "opened" }, unwrappers: [holder] });
console.log("the same image again:", result.digest === plain.digest);
