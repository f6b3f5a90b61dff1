import { ToolError, describeCause } from "../errors/index.ts";
import type { KeyPacket, KeyUnwrapper, KeywrapOptions } from "./contract.ts";
import { KeywrapError } from "./errors.ts";

/** The private options of a layer, and who opened them. */
export interface UnwrappedOptions {
  readonly optsdata: Uint8Array;
  readonly packet: KeyPacket;
  readonly unwrapper: KeyUnwrapper;
}

/**
 * Opens the first packet that any of the keys opens: keys at hand before keys that must be asked for.
 *
 * When none opens: the failure, if all are of one kind (a KBS that refuses, damaged packets), else `ERR_KEYWRAP_NO_KEY`
 * with every reason.
 */
export async function unwrapFirst(
  packets: readonly KeyPacket[],
  unwrappers: readonly KeyUnwrapper[],
  options: KeywrapOptions = {},
): Promise<UnwrappedOptions> {
  const failures = new Map<unknown, string>();
  for (const reach of ["local", "remote"] as const) {
    for (const unwrapper of unwrappers.filter((candidate) => candidate.reach === reach)) {
      for (const packet of packets) {
        if (!unwrapper.accepts(packet.scheme)) continue;
        options.signal?.throwIfAborted();
        try {
          const optsdata = await unwrapper.unwrap(packet, options);
          if (optsdata !== undefined) return { optsdata, packet, unwrapper };
        } catch (cause) {
          options.signal?.throwIfAborted();
          failures.set(cause, `${unwrapper.name}: ${describeCause(cause)}`);
        }
      }
    }
  }
  const [first, ...others] = failures.keys();
  if (first instanceof ToolError && others.every((cause) => cause instanceof ToolError && cause.code === first.code)) throw first;
  throw noKey(packets, unwrappers, failures);
}

function noKey(packets: readonly KeyPacket[], unwrappers: readonly KeyUnwrapper[], failures: ReadonlyMap<unknown, string>): KeywrapError {
  const schemes = [...new Set(packets.map(({ scheme }) => scheme))];
  const keys = unwrappers.map(({ name }) => name);
  return new KeywrapError("ERR_KEYWRAP_NO_KEY", {
    message: `no key at hand opens the layer (wrapped as ${schemes.join(", ") || "nothing"}; keys tried: ${keys.join(", ") || "none"})`,
    hint: "ociseal inspect shows who the recipients are; give a matching key with -k, or attest with -k kbs",
    details: { schemes, keys, attempts: [...failures.values()] },
    cause: failures.size === 0 ? undefined : new AggregateError([...failures.keys()], "every attempt to unwrap failed"),
  });
}
