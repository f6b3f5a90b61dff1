import { RegistryError } from "./errors.ts";
import { registryLimits } from "./options.ts";
import { redactText, redactUrl } from "./redact.ts";
import type { Method, Reply } from "./transport.ts";

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * Where an answer sends us, or `undefined` when it is no redirect. Whether credentials go along is the caller's matter.
 *
 * Only reading follows redirects. Throws `ERR_REGISTRY_REDIRECT_REFUSED` for more than five of them, from TLS to plain
 * HTTP, to other schemes, and to URLs with user information. Source: RFC 9110 section 15.4; E-registry, "Redirects".
 */
export function nextHop(
  reply: Reply,
  context: { readonly method: Method; readonly hops: number; readonly subject: string },
): URL | undefined {
  if (!redirectStatuses.has(reply.status)) return undefined;
  const location = reply.headers.one("location");
  if (context.method !== "GET" && context.method !== "HEAD") return undefined;
  if (location === undefined || !URL.canParse(location, reply.url.href)) {
    reply.body.destroy();
    throw refuse(context.subject, `${redactUrl(reply.url)} redirects to ${redactText(location ?? "nowhere", 100)}, which is no URL`);
  }
  const next = new URL(location, reply.url);
  next.hash = "";
  const reason = refusal(reply.url, next, context.hops);
  if (reason === undefined) return next;
  reply.body.destroy();
  throw refuse(context.subject, `${redactUrl(reply.url)} redirects to ${redactUrl(next)}, ${reason}`);
}

function refusal(from: URL, to: URL, hops: number): string | undefined {
  if (hops >= registryLimits.redirects) return `after ${hops} redirects already`;
  if (to.protocol !== "https:" && to.protocol !== "http:") return "which is neither https nor http";
  if (from.protocol === "https:" && to.protocol === "http:") return "from TLS to plain HTTP";
  if (to.username !== "" || to.password !== "") return "which carries user information";
  return undefined;
}

function refuse(subject: string, message: string): RegistryError {
  return new RegistryError("ERR_REGISTRY_REDIRECT_REFUSED", {
    message: `${subject}: ${message}`,
    hint: "the registry or a proxy before it is misconfigured or hostile; tell its owner",
  });
}

/**
 * Resolves a Location or Link that must stay on the registry's own origin. Query and path keep their exact spelling.
 *
 * A TLS registry behind a proxy may name itself `http://` or drop its port 443: the same host on the standard port
 * means the registry itself, over TLS. Anything else on another origin: `ERR_REGISTRY_REDIRECT_REFUSED`; uploads and
 * listings are never carried elsewhere.
 */
export function ownLocation(location: string | undefined, base: URL, origin: URL, subject: string): URL {
  if (location === undefined || !URL.canParse(location, base.href)) {
    throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
      message: `${subject}: the registry's answer lacks a usable Location`,
      hint: "check host and port: what answers there does not behave as a registry",
    });
  }
  const url = new URL(location, base);
  url.hash = "";
  if (url.origin === origin.origin && url.username === "" && url.password === "") return url;
  const sameHost = url.hostname === origin.hostname && url.username === "" && url.password === "";
  if (
    sameHost &&
    origin.protocol === "https:" &&
    url.protocol === "http:" &&
    (url.port === "" || url.port === origin.port || url.port === "443")
  ) {
    // Not resolved against the origin: a path that starts with two slashes would name another host.
    return new URL(`${origin.origin}${url.pathname}${url.search}`);
  }
  throw refuse(subject, `the registry at ${origin.host} points to ${redactUrl(url)}, another origin`);
}
