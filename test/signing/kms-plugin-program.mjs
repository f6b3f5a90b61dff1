#!/usr/bin/env node
// A cosign KMS plugin, protocol v1, over a key file whose name is the key's resource ID.
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";

const [, , version, text] = process.argv;
const { initOptions, methodName } = JSON.parse(text);
const answer = (value) => process.stdout.write(JSON.stringify(value));
if (version !== "v1" || initOptions.protocolVersion !== "v1") answer({ errorMessage: "unsupported protocol version" });
else if (initOptions.keyResourceID === "broken") process.stdout.write("no JSON");
else if (initOptions.keyResourceID === "denied") {
  answer({ errorMessage: "permission denied" });
  process.exitCode = 1;
} else {
  const key = createPrivateKey(readFileSync(initOptions.keyResourceID));
  const message = readFileSync(0);
  switch (methodName) {
    case "publicKey":
      answer({ publicKey: { publicKeyPEM: Buffer.from(createPublicKey(key).export({ format: "pem", type: "spki" })).toString("base64") } });
      break;
    case "signMessage":
      answer({ signMessage: { signature: sign("sha256", message, key).toString("base64") } });
      break;
    case "verifySignature":
      answer({ verifySignature: {} });
      break;
    default:
      answer({ errorMessage: `unknown method ${methodName}` });
  }
}
