// Sign an image as cosign does, in both of its formats, and verify it.
import { generateKeyPairSync } from "node:crypto";
import { loadPublicKey, loadSigner, signImage, verifyImage } from "ociseal/signing";
import { memoryStore } from "ociseal/store";
import { putTinyImage } from "./tiny-image.ts";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const signer = await loadSigner({ pem: String(privateKey.export({ format: "pem", type: "pkcs8" })), source: "example" });
const store = memoryStore("memory:example");
const target = await putTinyImage(store);
const reference = "registry.example.com/app";
await signImage({ store, target, reference, signer, format: "both", now: new Date() });
const key = loadPublicKey({ bytes: String(publicKey.export({ format: "pem", type: "spki" })), source: "example.pub" });
const verified = await verifyImage({ store, target, requirement: { kind: "keys", keys: [key], log: "if-present" } });
console.log("verified:", verified.target.digest === target.digest);
