// A Key Broker Service for development: register a key, attest as a guest, get it.
import { randomBytes } from "node:crypto";
import { sampleAttester } from "ociseal/attestation";
import { connectKbs, connectKbsAdmin, generateRootKey, openMemoryStore, serveKbs } from "ociseal/kbs";

const server = await serveKbs({
  listen: { host: "127.0.0.1", port: 0 },
  mode: "development",
  store: openMemoryStore(),
  rootKeys: [generateRootKey()],
});
const admin = connectKbsAdmin({ url: server.url, token: server.adminToken ?? "" });
const key = randomBytes(32);
await admin.putResource("kbs:///default/key/1", key);
const guest = connectKbs({ url: server.url, attester: sampleAttester() });
console.log("the guest got the key:", Buffer.from(await guest.fetchResource("kbs:///default/key/1")).equals(key));
await guest.close();
await admin.close();
await server.close();
