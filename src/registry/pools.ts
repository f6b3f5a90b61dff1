import { lookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { Pool, ProxyAgent, type Dispatcher } from "undici";
import { mayPoint, reachOf, type Reach } from "./addresses.ts";
import { RegistryError } from "./errors.ts";
import { defaultConcurrency, registryLimits, type RegistryTimeouts, type TransportOptions } from "./options.ts";
import { proxyFor } from "./proxy.ts";
import { readCertsDir, secureContext, type Roots } from "./tls-material.ts";

/** For whom a connection is made. */
export type ConnectionPurpose =
  /** A host that the user named: its own client certificates, any address. */
  | { readonly kind: "named"; readonly verify: "certificates" | "nothing" }
  /** A host that another host sent us to: no client certificate, no address nearer than that host's own. */
  | { readonly kind: "pointed-to"; readonly from: Reach };

/** Connection pools by origin and purpose; connections are reused, never shared between purposes. */
export class Pools {
  readonly #options: TransportOptions;
  readonly #timeouts: RegistryTimeouts;
  readonly #pools = new Map<string, Dispatcher>();
  #roots: Roots = "default";

  constructor(options: TransportOptions, timeouts: RegistryTimeouts) {
    this.#options = options;
    this.#timeouts = timeouts;
  }

  /**
   * @param use - token services elsewhere have connections of their own. One on the registry's origin shares the registry's:
   *   transfers that are held open never take the last of them (see `Lane`), and nobody who waits for a token holds one.
   */
  for(url: URL, purpose: ConnectionPurpose, use: "content" | "token"): Dispatcher {
    const key = `${use} ${url.origin} ${purpose.kind === "named" ? purpose.verify : purpose.from}`;
    const known = this.#pools.get(key);
    if (known !== undefined) return known;
    if (purpose.kind === "pointed-to") refuseNearLiteral(url, purpose.from);
    const pool = this.#open(url, purpose);
    this.#pools.set(key, pool);
    return pool;
  }

  /**
   * From now on the system's CAs are trusted as well as Node's own; `false` when they already are.
   *
   * Reading them takes a third of a second on some systems, so it happens when a certificate was not known otherwise.
   */
  trustSystem(): boolean {
    if (this.#roots === "default-and-system") return false;
    this.#roots = "default-and-system";
    for (const [key, pool] of this.#pools) {
      if (!key.includes(" https:")) continue;
      this.#pools.delete(key);
      // Others may still use it; it ends when they are done.
      pool.close().catch(() => undefined);
    }
    return true;
  }

  async destroy(): Promise<void> {
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.destroy()));
  }

  #open(url: URL, purpose: ConnectionPurpose): Dispatcher {
    const timeout = this.#timeouts.connectMs;
    const tls = url.protocol === "https:" ? { secureContext: this.#context(url, purpose) } : {};
    const verify = purpose.kind === "named" && purpose.verify === "nothing" ? { rejectUnauthorized: false } : {};
    const guard = purpose.kind === "pointed-to" ? { lookup: guardedLookup(purpose.from) } : {};
    // HTTP/1.1 only: an early answer to a large upload, a cut body and the connection limit mean what they say.
    const connections = Math.max(2, this.#options.concurrency ?? defaultConcurrency);
    const common = { allowH2: false, pipelining: 1, maxHeaderSize: registryLimits.headers, connections } as const;
    const proxy = proxyFor(url, this.#options.proxy);
    if (proxy === undefined) return new Pool(url.origin, { ...common, connect: { timeout, ...tls, ...verify, ...guard } });
    const roots = { secureContext: secureContext({ ca: this.#options.ca ?? [], client: [] }, this.#roots) };
    return new ProxyAgent({
      ...common,
      uri: proxy.href,
      requestTls: { timeout, ...tls, ...verify },
      proxyTls: { timeout, ...(proxy.protocol === "https:" ? roots : {}) },
    });
  }

  #context(url: URL, purpose: ConnectionPurpose) {
    // The administrator put these there for this very host, so they belong to it whoever sent us there.
    const own = readCertsDir(this.#options.certsDirs ?? [], url);
    const everywhere = this.#options.clientCertificate;
    return secureContext(
      {
        ca: [...(this.#options.ca ?? []), ...own.ca],
        client: [...own.client, ...(everywhere === undefined || purpose.kind === "pointed-to" ? [] : [everywhere])],
      },
      this.#roots,
    );
  }
}

function refuseNearLiteral(url: URL, from: Reach): void {
  const reach = reachOf(url.hostname);
  if (reach !== undefined && !mayPoint(from, reach)) throw tooNear(url.hostname, reach, from);
}

/** Checks every address that a name resolves to, at the moment of connecting: a name can change its mind (DNS rebinding). */
function guardedLookup(from: Reach): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, []);
      for (const { address } of addresses) {
        const reach = reachOf(address) ?? "loopback";
        if (!mayPoint(from, reach)) return callback(tooNear(hostname, reach, from), []);
      }
      const [first] = addresses;
      if (options.all === true || first === undefined) return callback(null, addresses);
      callback(null, first.address, first.family);
    });
  };
}

function tooNear(host: string, reach: Reach, from: Reach): RegistryError {
  return new RegistryError("ERR_REGISTRY_REDIRECT_REFUSED", {
    message: `a registry at a ${from} address points to ${host}, which is a ${reach} address`,
    hint: "that is how requests are smuggled into a private network; if it is intended, talk to the other address directly",
  });
}
