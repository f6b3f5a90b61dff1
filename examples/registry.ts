// Push to a registry and read back, verified.
import { openRegistry } from "ociseal/registry";
import { serveRegistry } from "ociseal/registry-server";
import { putTinyImage } from "./tiny-image.ts";

const server = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
const repository = openRegistry({ host: new URL(server.url).host, repository: "team/app" });
const pushed = await putTinyImage(repository);
const found = await repository.resolve("app");
console.log("found", found.digest === pushed.digest, await repository.tags());
await repository.close();
await server.close();
