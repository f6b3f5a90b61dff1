import { BlockList, isIP } from "node:net";

/**
 * Where an address lies, nearest first. Something told to us by a machine further away must not send us to a nearer
 * one: a public registry may not point at our loopback or at a cloud's metadata service.
 */
export type Reach = "loopback" | "link-local" | "private" | "public";

const ranks: Readonly<Record<Reach, number>> = { loopback: 0, "link-local": 1, private: 2, public: 3 };

const lists: Readonly<Record<Exclude<Reach, "public">, BlockList>> = {
  loopback: blockList(["127.0.0.0/8", "0.0.0.0/8"], ["::1/128", "::/128"]),
  "link-local": blockList(["169.254.0.0/16"], ["fe80::/10"]),
  // RFC 1918, RFC 6598 (CGNAT), RFC 5737, RFC 2544, multicast and reserved; RFC 4193, deprecated site-local, documentation.
  private: blockList(
    [
      "10.0.0.0/8",
      "100.64.0.0/10",
      "172.16.0.0/12",
      "192.0.0.0/24",
      "192.0.2.0/24",
      "192.168.0.0/16",
      "198.18.0.0/15",
      "198.51.100.0/24",
      "203.0.113.0/24",
      "224.0.0.0/4",
      "240.0.0.0/4",
    ],
    ["fc00::/7", "fec0::/10", "ff00::/8", "2001:db8::/32", "100::/64"],
  ),
};

/** Prefixes that carry an IPv4 address inside an IPv6 one, and where it starts (16-bit groups). RFC 4291, RFC 6052, RFC 3056, RFC 8215. */
const embedding: readonly { readonly list: BlockList; readonly group: number }[] = [
  { list: blockList([], ["::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/96"]), group: 6 },
  { list: blockList([], ["2002::/16"]), group: 1 },
];

/** How near an IP address is; `undefined` when the text is not an IP address. Brackets are allowed. */
export function reachOf(text: string): Reach | undefined {
  const address = text.replace(/^\[(.*)\]$/, "$1");
  const family = isIP(address);
  if (family === 0) return undefined;
  if (family === 6) {
    if (address.includes("%")) return "link-local";
    // ::1 and :: lie in the IPv4-compatible prefix too; they are themselves.
    if (!lists.loopback.check(address, "ipv6")) {
      const row = embedding.find(({ list }) => list.check(address, "ipv6"));
      if (row !== undefined) return reachOf(embeddedIpv4(address, row.group));
    }
  }
  const type = family === 4 ? "ipv4" : "ipv6";
  if (lists.loopback.check(address, type)) return "loopback";
  if (lists["link-local"].check(address, type)) return "link-local";
  return lists.private.check(address, type) ? "private" : "public";
}

/** Whether a host name or literal always means this machine. Source: RFC 6761 section 6.3. */
export function isLoopbackHost(hostname: string): boolean {
  const name = hostname.toLowerCase().replace(/\.$/, "");
  return name === "localhost" || name.endsWith(".localhost") || reachOf(name) === "loopback";
}

/** Whether something at reach `from` may send us to an address at reach `to`. */
export function mayPoint(from: Reach, to: Reach): boolean {
  return ranks[to] >= ranks[from];
}

function embeddedIpv4(address: string, group: number): string {
  const groups = expand(address);
  const high = groups[group] ?? 0;
  const low = groups[group + 1] ?? 0;
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** The eight 16-bit groups of a valid IPv6 address. */
function expand(address: string): readonly number[] {
  const dotted = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  let text = address;
  if (dotted !== null) {
    const [a = 0, b = 0, c = 0, d = 0] = dotted.slice(1).map(Number);
    text = `${address.slice(0, dotted.index)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = "", tail] = text.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array.from({ length: zeros }, () => "0"), ...right].map((group) => Number.parseInt(group, 16));
}

function blockList(v4: readonly string[], v6: readonly string[]): BlockList {
  const list = new BlockList();
  for (const [subnets, type] of [
    [v4, "ipv4"],
    [v6, "ipv6"],
  ] as const) {
    for (const subnet of subnets) {
      const [network = "", prefix = ""] = subnet.split("/");
      list.addSubnet(network, Number(prefix), type);
    }
  }
  return list;
}
