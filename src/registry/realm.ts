import { RegistryError } from "./errors.ts";
import type { TrustedRealm } from "./options.ts";
import { redactText, redactUrl } from "./redact.ts";
import { hub } from "./scheme.ts";

/** Token services that belong to a registry by its own documentation, although they are neither the same host nor a parent or child of it. */
const builtIn: readonly TrustedRealm[] = [
  { registry: "registry-1.docker.io", realm: "auth.docker.io" },
  { registry: "registry.digitalocean.com", realm: "api.digitalocean.com" },
];

/** `own`: the registry's credentials may go there. `foreign`: nothing of ours may, but asking anonymously is fine. */
export type RealmStanding = "own" | "foreign";

/**
 * Reads the realm of a Bearer challenge. Throws `ERR_REGISTRY_REALM_REFUSED` for what nobody may be sent to: no URL,
 * another scheme than HTTP, user information, plain HTTP named by a TLS registry.
 */
export function parseRealm(registry: URL, realm: string | undefined): URL {
  if (realm === undefined || !URL.canParse(realm)) {
    throw refused(registry, redactText(realm ?? "nothing", 80), "a token service is named by an absolute URL");
  }
  const url = new URL(realm);
  if (url.protocol !== "https:" && url.protocol !== "http:") throw refused(registry, redactUrl(url), "only https and http are spoken");
  if (url.username !== "" || url.password !== "")
    throw refused(registry, redactUrl(url), "a token service URL must carry no user information");
  if (registry.protocol === "https:" && url.protocol === "http:") {
    throw refused(registry, redactUrl(url), "a registry on TLS must name a token service on TLS");
  }
  url.hash = "";
  return url;
}

/**
 * Whether a token service belongs to a registry.
 *
 * It does when it has the same scheme, host and port; when one host is the parent domain of the other and both speak
 * TLS on the standard port (`registry.gitlab.com`, `gitlab.com`); or when the pair is built in or configured. Two
 * hosts under one parent do not belong together: nobody can tell `a.github.io` from `auth.example.com` without the
 * public suffix list, and all big clients that are more generous leak (E-registry, section 4.1).
 */
export function realmStanding(registry: URL, realm: URL, trusted: readonly TrustedRealm[]): RealmStanding {
  if (realm.origin === registry.origin) return "own";
  for (const pair of [...builtIn, ...trusted]) {
    if (matchesHost(pair.registry, registry) && matchesHost(pair.realm, realm)) return "own";
  }
  const standard = realm.protocol === "https:" && registry.protocol === "https:" && realm.port === "" && registry.port === "";
  const related = isSubdomain(registry.hostname, realm.hostname) || isSubdomain(realm.hostname, registry.hostname);
  return standard && related ? "own" : "foreign";
}

/** The error for credentials that have no place to go. */
export function foreignRealm(registry: URL, realm: URL): RegistryError {
  return refused(
    registry,
    redactUrl(realm),
    `if ${realm.host} does belong to ${registry.host}, allow the pair: --allow-realm ${registry.host}=${realm.host}; otherwise log out of ${registry.host} or stay away from it`,
  );
}

function matchesHost(name: string, url: URL): boolean {
  const lower = hub.names.has(name.toLowerCase()) ? hub.host : name.toLowerCase();
  return lower === url.host || (url.port === "" && lower === `${url.hostname}:${url.protocol === "https:" ? 443 : 80}`);
}

/** Whether `child` lies under `parent`, a domain of at least two labels; whole labels, never a text suffix. */
function isSubdomain(child: string, parent: string): boolean {
  const labels = (name: string) => name.toLowerCase().replace(/\.$/, "").split(".");
  const inner = labels(child);
  const outer = labels(parent);
  if (outer.length < 2 || inner.length <= outer.length || /^[\d[]/.test(outer.at(-1) ?? "")) return false;
  return outer.every((label, i) => label === inner[inner.length - outer.length + i]);
}

function refused(registry: URL, realm: string, hint: string): RegistryError {
  return new RegistryError("ERR_REGISTRY_REALM_REFUSED", {
    message: `${registry.host} asks to get a token from ${realm}, which its credentials must not be sent to`,
    hint,
    details: { registry: registry.host, realm },
  });
}
