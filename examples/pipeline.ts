// Change who can open an image; no layer is encrypted or moved again.
import { generateKeyPairSync } from "node:crypto";
import { jweWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper } from "ociseal/keywrap";
import { describeImage, encryptImage, rewrapImage } from "ociseal/pipeline";
import { memoryStore } from "ociseal/store";
import { putTinyImage } from "./tiny-image.ts";

const pair = () => generateKeyPairSync("ec", { namedCurve: "P-256" });
const [team, partner] = [pair(), pair()];
const recipient = ({ publicKey }: typeof team) =>
  jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });
const store = memoryStore("memory:example");
const root = await putTinyImage(store);
const to = { store, reference: "sealed" };
await encryptImage({ from: store, root, to, cipher: "AES_256_CTR_HMAC_SHA256", wrappers: [recipient(team)], profile: "ocicrypt" });
const { result } = await rewrapImage({
  from: store,
  root: await store.resolve("sealed"),
  to,
  unwrappers: [privateKeyUnwrapper([parsePrivateKey(team.privateKey.export({ format: "der", type: "pkcs8" }))])],
  add: [recipient(partner)],
});
const { platforms } = await describeImage({ store, root: result });
console.log("recipients:", platforms[0]?.layers[0]?.encryption?.recipients.length);
