import type { SecretStore } from "../stores/secret-store.ts";
import { x5cOf } from "../tokens/attestation-tokens.ts";
import type { SigningKeys } from "../tokens/signing-keys.ts";
import { jsonReply } from "./call.ts";
import type { Route } from "./router.ts";

/** What anybody may know: the keys that verify our tokens, and whether the service works. */
export function wellKnownRoutes(parts: { readonly tokenKeys: SigningKeys; readonly store: SecretStore }): readonly Route[] {
  return [
    {
      method: "GET",
      pattern: "/.well-known/jwks.json",
      name: "jwks",
      handle: () => jsonReply({ keys: jwksOf(parts.tokenKeys) }, { "cache-control": "max-age=60" }),
    },
    { method: "GET", pattern: "/healthz", name: "healthz", handle: () => jsonReply({ status: "ok" }) },
    {
      method: "GET",
      pattern: "/readyz",
      name: "readyz",
      handle: async () => {
        await parts.store.probe();
        return jsonReply({ status: "ready" });
      },
    },
  ];
}

function jwksOf(keys: SigningKeys): readonly unknown[] {
  return keys.all.map(({ key, chain }) => {
    const x5c = x5cOf(chain);
    return { ...key.jwk, kid: key.kid, use: "sig", ...(x5c.length === 0 ? {} : { x5c }) };
  });
}
