import type { ClaimRule, EndpointRule } from "../tokens/jwt-issuer.ts";
import type { ConfigReader } from "./reader.ts";

/** An issuer of administration tokens; key files are named, not read. */
export interface IssuerConfig {
  readonly name: string;
  readonly keys:
    | { readonly kind: "pem"; readonly files: readonly string[] }
    | { readonly kind: "jwks"; readonly file: string }
    | { readonly kind: "jwks-url"; readonly url: string }
    | { readonly kind: "discovery" };
  readonly issuer: string | undefined;
  readonly audience: string | undefined;
  readonly roleClaim: string | undefined;
  readonly defaultRoles: readonly string[];
  readonly rules: readonly ClaimRule[];
  readonly endpointRules: readonly EndpointRule[];
  readonly authorities: string | undefined;
}

/** One `[[issuers]]` table. */
export function readIssuer(section: ConfigReader): IssuerConfig {
  const keys = section.section("keys");
  const result: IssuerConfig = {
    name: section.text("name"),
    keys: readKeys(keys),
    issuer: section.optionalText("issuer"),
    audience: section.optionalText("audience"),
    roleClaim: section.optionalText("role_claim"),
    defaultRoles: section.texts("default_roles"),
    rules: section.sections("rules").map((rule) => {
      const read = { claims: rule.textMap("claims"), roles: rule.texts("roles") };
      if (Object.keys(read.claims).length === 0) rule.problem("claims", "must name at least one claim");
      rule.finish();
      return read;
    }),
    endpointRules: section.sections("endpoint_rules").map((rule) => {
      const methods = rule.has("methods") ? rule.texts("methods") : undefined;
      const read = {
        role: rule.text("role"),
        allowedEndpoints: rule.text("allowed_endpoints"),
        ...(methods === undefined ? {} : { methods }),
      };
      rule.finish();
      return read;
    }),
    authorities: section.optionalText("authorities"),
  };
  keys.finish();
  if ((result.keys.kind === "discovery" || result.keys.kind === "jwks-url") && result.audience === undefined)
    section.problem("audience", "is missing");
  if (result.keys.kind === "discovery" && result.issuer === undefined) section.problem("issuer", "is missing");
  section.finish();
  return result;
}

function readKeys(keys: ConfigReader): IssuerConfig["keys"] {
  const kind = keys.word("kind", ["pem", "jwks", "jwks-url", "discovery"], "required");
  switch (kind) {
    case "pem":
      return { kind, files: keys.texts("files") };
    case "jwks":
      return { kind, file: keys.text("file") };
    case "jwks-url":
      return { kind, url: keys.text("url") };
    case "discovery":
      return { kind };
  }
}
