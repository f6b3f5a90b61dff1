import { BlockList, isIP } from "node:net";
import { isLoopbackHost } from "./addresses.ts";
import { RegistryError } from "./errors.ts";

/** The values of HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
export interface ProxySettings {
  readonly https?: string | undefined;
  readonly http?: string | undefined;
  readonly noProxy?: string | undefined;
}

/**
 * The proxy for an origin, or `undefined` for a direct connection. Loopback is always direct, as with Go's clients.
 *
 * NO_PROXY: separated by commas or spaces; `*`, `host`, `.suffix`, `*.suffix`, `host:port`, addresses and CIDR blocks;
 * a plain name covers its subdomains too (golang.org/x/net/http/httpproxy). Throws `ERR_REGISTRY_CONFIG_MALFORMED` for
 * a proxy that is no http, https or socks5 URL.
 */
export function proxyFor(url: URL, settings: ProxySettings | undefined): URL | undefined {
  const text = url.protocol === "https:" ? settings?.https : settings?.http;
  if (text === undefined || text === "" || isLoopbackHost(url.hostname) || isExcluded(url, settings?.noProxy ?? "")) return undefined;
  let proxy: URL | undefined;
  try {
    proxy = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  } catch {
    // Below: the text may hold a password, so it is not repeated.
  }
  if (proxy === undefined || !["http:", "https:", "socks5:"].includes(proxy.protocol)) {
    throw new RegistryError("ERR_REGISTRY_CONFIG_MALFORMED", {
      message: `the proxy for ${url.protocol}// addresses is not an http, https or socks5 URL`,
      hint: "set HTTPS_PROXY to http://HOST:PORT, or unset it",
    });
  }
  return proxy;
}

function isExcluded(url: URL, noProxy: string): boolean {
  const host = url.hostname.toLowerCase().replace(/^\[|\]$/g, "");
  const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => entry !== "" && matches(entry, host, port));
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry === "*") return true;
  const cidr = /^(.+)\/(\d{1,3})$/.exec(entry);
  if (cidr !== null) return inBlock(host, cidr[1] ?? "", Number(cidr[2]));
  const withPort = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(entry);
  const name = (withPort?.[1] ?? withPort?.[2] ?? entry).replace(/^\[|\]$/g, "");
  if (withPort !== null && withPort[3] !== port) return false;
  if (isIP(name) !== 0 || isIP(host) !== 0) return name === host;
  if (name.startsWith("*.")) return host.endsWith(name.slice(1));
  if (name.startsWith(".")) return host.endsWith(name);
  return host === name || host.endsWith(`.${name}`);
}

function inBlock(host: string, network: string, prefix: number): boolean {
  const family = isIP(network);
  if (family === 0 || isIP(host) !== family || prefix > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? "ipv4" : "ipv6";
  const block = new BlockList();
  block.addSubnet(network, prefix, type);
  return block.check(host, type);
}
