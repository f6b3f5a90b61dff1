/** What a registry may be shown. Never printed. */
export type Credential =
  | { readonly kind: "basic"; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, exchanged at the token service. docker's `identitytoken`. */
  | { readonly kind: "identity-token"; readonly token: string }
  /** A ready bearer token. docker's `registrytoken`. */
  | { readonly kind: "registry-token"; readonly token: string };

/**
 * Finds the credentials for one repository; `undefined` means anonymous.
 *
 * `host` is as in references (`docker.io` for the Hub, whatever host its API has); it is matched exactly.
 */
export type CredentialSource = (host: string, repository: string) => Promise<Credential | undefined>;

/** No credentials for anybody. */
export const anonymous: CredentialSource = () => Promise.resolve(undefined);
