import { BlockList, isIPv4, isIPv6 } from "node:net";
import { KbsError } from "../errors.ts";

/** Finds out who sent a request: the peer, or whom a trusted proxy names. */
export type ClientAddress = (peer: string, forwardedFor: string | undefined) => string;

/**
 * `trustedProxies` are addresses or CIDR blocks. `X-Forwarded-For` is read from its end, past trusted proxies only: what
 * stands before the first untrusted address was written by strangers. Throws `ERR_KBS_CONFIG_INVALID`.
 */
export function clientAddressBehind(trustedProxies: readonly string[]): ClientAddress {
  const trusted = new BlockList();
  for (const block of trustedProxies) {
    const [address = "", bits] = block.split("/");
    const family = isIPv4(address) ? "ipv4" : isIPv6(address) ? "ipv6" : undefined;
    if (family === undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits))) {
      throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: `not an address or CIDR block of a trusted proxy: ${block.slice(0, 60)}` });
    }
    if (bits === undefined) trusted.addAddress(address, family);
    else trusted.addSubnet(address, Number(bits), family);
  }
  if (trustedProxies.length === 0) return unmapped;
  const isTrusted = (address: string) =>
    isIPv4(address) ? trusted.check(address, "ipv4") : isIPv6(address) && trusted.check(address, "ipv6");
  return (peer, forwardedFor) => {
    let address = unmapped(peer);
    const named = (forwardedFor ?? "").split(",").map((part) => part.trim());
    while (isTrusted(address)) {
      const next = unmapped(named.pop() ?? "");
      if (!isIPv4(next) && !isIPv6(next)) break;
      address = next;
    }
    return address;
  };
}

/** An IPv4 address as a dual-stack socket shows it is the same caller. */
function unmapped(address: string): string {
  return address.startsWith("::ffff:") && isIPv4(address.slice(7)) ? address.slice(7) : address;
}
