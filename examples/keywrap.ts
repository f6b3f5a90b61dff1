// Wrap a layer's private options for a recipient, and open them with the private key.
import { generateKeyPairSync } from "node:crypto";
import { jweWrapper, parsePrivateKey, parsePublicKey, privateKeyUnwrapper, unwrapFirst } from "ociseal/keywrap";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const wrapper = jweWrapper({ publicKey: parsePublicKey(publicKey.export({ format: "der", type: "spki" })) });
const packets = await wrapper.wrap(Buffer.from("the options of a layer"));
const holder = privateKeyUnwrapper([parsePrivateKey(privateKey.export({ format: "der", type: "pkcs8" }))]);
const { optsdata } = await unwrapFirst(packets, [holder]);
console.log(packets[0]?.scheme, Buffer.from(optsdata).toString());
