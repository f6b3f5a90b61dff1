import { deleteBlob, getBlob } from "./blob-routes.ts";
import type { Exchange, RegistryCore } from "./exchange.ts";
import { listReferrers, listRepositories, listTags } from "./list-routes.ts";
import { deleteManifest, getManifest, putManifest } from "./manifest-routes.ts";
import { Refusal } from "./refusal.ts";
import { jsonReply, type Reply } from "./reply.ts";
import type { Route } from "./route.ts";
import { cancelUpload, finishUpload, patchUpload, startUpload, uploadStatus } from "./upload-routes.ts";

/** Methods of each endpoint, for `Allow`. */
const methods: Readonly<Record<Route["kind"], readonly string[]>> = {
  base: ["GET", "HEAD"],
  catalog: ["GET"],
  token: ["GET", "POST"],
  blob: ["GET", "HEAD", "DELETE"],
  uploads: ["POST"],
  upload: ["GET", "PATCH", "PUT", "DELETE"],
  manifest: ["GET", "HEAD", "PUT", "DELETE"],
  tags: ["GET", "HEAD"],
  referrers: ["GET", "HEAD"],
};

/** Throws `UNSUPPORTED` with the methods that the endpoint knows. */
export function assertMethod(method: string, route: Route): void {
  const allowed = methods[route.kind];
  if (allowed.includes(method)) return;
  throw new Refusal("UNSUPPORTED", { status: 405, message: `${method} is not supported here`, headers: { allow: allowed.join(", ") } });
}

/** Finds the handler of an endpoint's method. Source: OCI distribution-spec, "Endpoints". `abort` ends the request, for a newer one of the same upload. */
export async function dispatch(core: RegistryCore, exchange: Exchange, route: Route, abort: () => void): Promise<Reply> {
  switch (route.kind) {
    case "base":
      return jsonReply(200, {});
    case "catalog":
      return listRepositories(core, exchange);
    case "token":
      throw new Refusal("UNSUPPORTED", { status: 404, message: "this registry has no token endpoint" });
    case "blob":
      return exchange.method === "DELETE" ? deleteBlob(core, route.name, route.digest) : getBlob(core, exchange, route.name, route.digest);
    case "uploads":
      return startUpload(core, exchange, route.name);
    case "upload":
      return useUpload(core, exchange, route.name, route.id, abort);
    case "manifest":
      switch (exchange.method) {
        case "PUT":
          return putManifest(core, exchange, route.name, route.reference);
        case "DELETE":
          return deleteManifest(core, route.name, route.reference);
        default:
          return getManifest(core, exchange, route.name, route.reference);
      }
    case "tags":
      return listTags(core, exchange, route.name);
    case "referrers":
      return listReferrers(core, exchange, route.name, route.digest);
  }
}

async function useUpload(core: RegistryCore, exchange: Exchange, name: string, id: string, abort: () => void): Promise<Reply> {
  const session = core.sessions.find(id, name, exchange.principal);
  return core.sessions.use(session, abort, async () => {
    // The request that had it before may have finished it.
    core.sessions.find(id, name, exchange.principal);
    switch (exchange.method) {
      case "PATCH":
        return patchUpload(core, exchange, session);
      case "PUT":
        return finishUpload(core, exchange, session);
      case "DELETE":
        return cancelUpload(core, session);
      default:
        return uploadStatus(core, exchange, session);
    }
  });
}
