import type { IdentityTokenSource } from "./identity-token.ts";
import type { SigningServices } from "./services.ts";

/** Signs with a key that lives for one signature, certified for whom an identity token names. */
export interface KeylessSigner {
  readonly kind: "keyless";
  readonly identityToken: IdentityTokenSource;
  readonly services: SigningServices;
}
