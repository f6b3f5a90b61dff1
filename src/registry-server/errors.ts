import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const registryServerErrors = {
  ERR_REGISTRY_SERVER_LISTEN: { category: "io", summary: "The embedded registry cannot listen on the address." },
  ERR_REGISTRY_SERVER_STORAGE: {
    category: "io",
    summary: "The embedded registry's storage folder cannot be used, or holds a damaged layout.",
  },
  ERR_REGISTRY_SERVER_LOCKED: { category: "io", summary: "Another registry process uses the storage folder." },
  ERR_REGISTRY_SERVER_OPTIONS: {
    category: "usage",
    summary: "A vendor profile, fault rule or option of the embedded registry is malformed.",
  },
} as const satisfies ErrorTable;

/** What {@link serveRegistry} and the parsers of profiles and fault rules throw. Failures of one request are answers, never thrown. */
export class RegistryServerError extends ToolError<keyof typeof registryServerErrors> {
  constructor(code: keyof typeof registryServerErrors, facts: ErrorFacts) {
    super(code, registryServerErrors[code].category, facts);
  }
}
