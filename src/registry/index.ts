/** The distribution client: repositories of registries as content stores, their credentials and their transport. */
export { registryErrors, RegistryError, type RegistryErrorCode } from "./errors.ts";
export { openRegistry, type RegistryOptions } from "./registry-store.ts";
export type { RegistryStore } from "./store-interface.ts";
export { parseRegistriesConf, type MirrorUse, type RegistriesConf, type RegistryRule } from "./registries-conf.ts";
export { RegistryTransport } from "./transport.ts";
export {
  type RegistryNotice,
  type RegistryTimeouts,
  type RetryPolicy,
  type SchemeRule,
  type TransportOptions,
  type TrustedRealm,
} from "./options.ts";
export { anonymous, type Credential, type CredentialSource } from "./credentials.ts";
export { credentialProblems } from "./credential-entries.ts";
export { credentialsFor, credentialsFromFiles, credentialsInOrder, type CredentialFile } from "./credential-files.ts";
export { login, logout, type LoginCredential, type LoginFile, type LoginPlace } from "./login.ts";
