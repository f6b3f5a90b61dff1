// Answer ocicrypt's key provider protocol, as skopeo calls it.
import { randomUUID } from "node:crypto";
import { keyProvider } from "ociseal/keyprovider";

const provider = keyProvider({
  registry: undefined,
  readKeyFile: undefined,
  unwrappers: async () => [],
  // The published key of CoCo's samples: for tests alone.
  sample: "allowed",
  freshTag: randomUUID,
  now: Date.now,
});
const request = {
  op: "keywrap",
  keywrapparams: {
    ec: { Parameters: { "attestation-agent": [Buffer.from("sample=true").toString("base64")] } },
    optsdata: Buffer.from('{"symkey":""}').toString("base64"),
  },
};
const reply = JSON.parse(await provider.answer(Buffer.from(JSON.stringify(request)))) as { keywrapresults: { annotation: string } };
console.log("wrapped:", Object.keys(JSON.parse(Buffer.from(reply.keywrapresults.annotation, "base64").toString()) as object));
provider.close();
