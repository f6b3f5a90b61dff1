import { connect } from "node:tls";
import { isLoopbackHost } from "./addresses.ts";
import { RegistryError } from "./errors.ts";
import type { SchemeRule, TransportOptions } from "./options.ts";

/** The Hub's names. Source: distribution/reference; docker's registry configuration. */
export const hub = { host: "registry-1.docker.io", names: new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]) } as const;

const hostGrammar = /^(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\.?)(?::([0-9]{1,5}))?$/;

/** Lower case, the Hub's names folded to its API host. Throws `ERR_REGISTRY_NAME_MALFORMED`; the result is safe in URLs and as a folder name. */
export function canonicalHost(host: string): string {
  const lower = host.toLowerCase();
  const match = hostGrammar.exec(lower);
  if (match === null || Number(match[1] ?? 1) > 65_535 || Number(match[1] ?? 1) === 0 || !URL.canParse(`https://${lower}/`)) {
    throw new RegistryError("ERR_REGISTRY_NAME_MALFORMED", {
      message: `${JSON.stringify(host.slice(0, 120))} is not a registry host (expected NAME or NAME:PORT)`,
    });
  }
  return hub.names.has(lower) ? hub.host : lower;
}

/** The rule for one host, from the general rule and the hosts named one by one. */
export function ruleFor(host: string, options: TransportOptions): SchemeRule {
  if (options.plainHttpHosts?.some((name) => name.toLowerCase() === host) === true) return "http";
  return options.scheme ?? "http-on-loopback";
}

/** How to speak to a host. */
export interface HostAccess {
  readonly origin: URL;
  readonly verify: "certificates" | "nothing";
}

/** Decides between TLS and plain HTTP before anything is sent. */
export async function accessFor(host: string, rule: SchemeRule, timeoutMs: number): Promise<HostAccess> {
  const https = new URL(`https://${host}`);
  const verified = { origin: https, verify: "certificates" } as const;
  const plain = { origin: new URL(`http://${host}`), verify: "certificates" } as const;
  switch (rule) {
    case "https":
      return verified;
    case "http":
      return plain;
    case "http-on-loopback":
      return !isLoopbackHost(https.hostname) || (await speaksTls(https, timeoutMs)) ? verified : plain;
    case "insecure":
      return (await speaksTls(https, timeoutMs)) ? { origin: https, verify: "nothing" } : plain;
  }
}

/**
 * Whether a TLS handshake gets as far as a certificate. Nothing is sent but the handshake, and nothing is believed:
 * the real connection checks the certificate.
 */
function speaksTls(url: URL, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const port = url.port === "" ? 443 : Number(url.port);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const socket = connect({ host, port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"], timeout: timeoutMs });
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("secureConnect", () => done(true));
    socket.once("timeout", () => done(false));
    // A server that demands a client certificate or another TLS version speaks TLS all the same.
    socket.once("error", (error: NodeJS.ErrnoException) => done(/ALERT|UNSUPPORTED_PROTOCOL/.test(error.code ?? "")));
    socket.once("close", () => done(false));
  });
}
