import { consoleRoutes } from "../console/routes.ts";
import { auditRoutes } from "./audit-routes.ts";
import type { ServiceContext } from "./context.ts";
import { keyRoutes } from "./key-routes.ts";
import type { KbsServerOptions } from "./options.ts";
import { policyRoutes } from "./policy-routes.ts";
import { rcarRoutes } from "./rcar-routes.ts";
import { referenceRoutes } from "./reference-routes.ts";
import { resourceRoutes } from "./resource-routes.ts";
import type { Route } from "./router.ts";
import { systemRoutes } from "./system-routes.ts";

/** Everything that a service answers, in the order in which it is looked up. */
export function serviceRoutes(context: ServiceContext, options: Pick<KbsServerOptions, "console" | "routes"> = {}): readonly Route[] {
  return [
    ...resourceRoutes(context),
    ...policyRoutes(context),
    ...referenceRoutes(context),
    ...keyRoutes(context),
    ...auditRoutes(context),
    ...systemRoutes(context),
    ...(options.console === "off" ? [] : consoleRoutes(context)),
    ...(options.routes ?? []),
    ...rcarRoutes(context),
  ];
}
