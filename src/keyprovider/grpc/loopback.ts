import { BlockList, isIP } from "node:net";

/** Source: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3. */
const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Whether a host to listen on is reached from this machine alone. */
export function isLoopback(host: string): boolean {
  if (host === "localhost") return true;
  const family = isIP(host);
  return family !== 0 && loopback.check(host, family === 6 ? "ipv6" : "ipv4");
}
