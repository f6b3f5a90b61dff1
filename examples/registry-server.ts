// A registry of your own on loopback, in memory.
import { serveRegistry } from "ociseal/registry-server";

const server = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
const answer = await fetch(`${server.url}/v2/`);
console.log("answers", answer.status);
await server.close();
