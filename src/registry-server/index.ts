/** A registry in this process: OCI distribution-spec 1.1, vendor profiles, and failures on demand. */
export { registryServerErrors, RegistryServerError } from "./errors.ts";
export { serveRegistry, type RegistryServer } from "./server.ts";
export type { Garbage } from "./collect-garbage.ts";
export { collectStoredGarbage, defaultGraceMs } from "./collector.ts";
export {
  defaultLimits,
  type CollectOptions,
  type ObservedRequest,
  type RegistryLimits,
  type RequestRecord,
  type ServeRegistryOptions,
} from "./options.ts";
export type { AccessRule, Action, AuthOptions, UserOptions } from "./auth.ts";
export { conformant, parseVendorProfile, type Quirks, type VendorProfile } from "./profile.ts";
export { operations, parseFaultRules, type FaultAction, type FaultMatch, type FaultRule, type Operation } from "./fault-rule.ts";
