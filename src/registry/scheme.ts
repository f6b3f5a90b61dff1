import { connect } from "node:net";
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
 * The beginning of a TLS handshake: a ClientHello for TLS 1.2 and 1.3 without a key share. Whoever speaks TLS answers it
 * with a handshake record or an alert. A whole handshake would cost more than all else that some commands do.
 * Source: RFC 8446, section 4.1.2 (ClientHello), section 4.2 (extensions), section 5.1 (records).
 */
const clientHello = Buffer.from(
  [
    "16 0301 0060 01 00005c 0303", // record: handshake; message: ClientHello; legacy version
    "6f63697365616c2061736b73207768617420796f7520737065616b2c206f6b3f", // random: nothing depends on it
    "00 000c 1301 1302 1303 c02b c02f 009c 01 00", // no session; suites of both versions; no compression
    "0027", // extensions
    "002b 0005 04 0304 0303", // supported versions: 1.3, 1.2
    "000a 0006 0004 001d 0017", // groups: x25519, secp256r1
    "000d 000a 0008 0403 0804 0401 0807", // signatures: ECDSA, RSA-PSS, RSA, Ed25519
    "0033 0002 0000", // key shares: none yet
  ]
    .join("")
    .replaceAll(" ", ""),
  "hex",
);
/** Content types of TLS records that answer a ClientHello: alert and handshake. RFC 8446 section 5.1. */
const tlsRecords: ReadonlySet<number | undefined> = new Set([21, 22]);

/**
 * Whether a host answers a ClientHello as TLS does. Nothing else is sent and nothing is believed: the real connection
 * checks the certificate. Who demands a client certificate or another version says so in an alert, and speaks TLS too.
 */
function speaksTls(url: URL, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const port = url.port === "" ? 443 : Number(url.port);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const socket = connect({ host, port, timeout: timeoutMs }, () => socket.write(clientHello));
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("data", (answer) => done(tlsRecords.has(answer[0])));
    socket.once("timeout", () => done(false));
    socket.once("error", () => done(false));
    socket.once("close", () => done(false));
  });
}
