import { formatKbsUri, kbsWrapper, keksAtHand, brokerUnwrapper, unwrapFirst, type KeyUnwrapper } from "../keywrap/index.ts";
import { KeyproviderError, malformedRequest } from "./errors.ts";
import { KekSource, type KekRegistry, type RegisteredKek } from "./kek-source.ts";
import { parseWrapTarget, type KeyPlace, type WrapTarget } from "./parameters.ts";
import { formatReply, parseProviderCall, type ProviderOperation } from "./protocol.ts";
import { sampleKek } from "./sample-kek.ts";

export interface KeyProviderOptions {
  /** What the provider is called in `provider:NAME` and in the annotation; `attestation-agent` unless told. */
  readonly name?: string | undefined;
  /** Where keys are made and kept; without it nothing is wrapped but with a key file that its owner keeps. */
  readonly registry: KekRegistry | undefined;
  /** Reads the raw key of `keypath=`; without it that parameter is refused. */
  readonly readKeyFile: ((path: string) => Promise<Uint8Array>) | undefined;
  /** Whoever opens packets, asked anew for each call: a service must not remember keys that were taken back. */
  readonly unwrappers: () => Promise<readonly KeyUnwrapper[]>;
  /** Whether CoCo's published key may be used; never outside of tests. */
  readonly sample: "allowed" | "refused";
  /** See {@link KekSource}. */
  readonly runTag?: ((place: KeyPlace) => string) | undefined;
  readonly freshTag: () => string;
  /** Milliseconds, as of `Date.now`. */
  readonly now: () => number;
  /** Told about each call that went well; never what was wrapped, or under which key but its name. */
  readonly log?: ((event: ProviderEvent) => void) | undefined;
}

/** A call that was answered. */
export interface ProviderEvent {
  readonly operation: ProviderOperation;
  /** The name of the key, where a key was used that has one. */
  readonly kid: string | undefined;
  readonly registered: "registered" | "not-registered" | undefined;
}

export interface AnswerOptions {
  /** The only operation that is taken, where the way of calling says which (gRPC). */
  readonly operation?: ProviderOperation | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Answers requests of ocicrypt's key provider protocol; safe for concurrent calls. */
export interface KeyProvider {
  /**
   * The JSON of a reply to the JSON of a request. Throws `ERR_KEYPROVIDER_*`, `ERR_KEYWRAP_*`, and what the registry
   * and the brokers throw.
   */
  answer(request: Uint8Array, options?: AnswerOptions): Promise<string>;
  /** Drops keys that it holds. */
  close(): void;
}

const agent = "attestation-agent";

/** Makes a key provider. Nothing is asked of anybody before the first call. */
export function keyProvider(options: KeyProviderOptions): KeyProvider {
  const { name = agent, registry, log } = options;
  const source = registry === undefined ? undefined : new KekSource({ ...options, registry });

  const wrap = async (parameters: readonly string[], optsdata: Uint8Array, signal: AbortSignal | undefined) => {
    const { uri, kek, registered } = await kekOf(parseWrapTarget(parameters), signal);
    const [packet] = await kbsWrapper({ uri, kek, packets: agent }).wrap(optsdata, { signal });
    if (packet === undefined) throw malformedRequest("led to no packet");
    log?.({ operation: "wrap", kid: uri, registered });
    return packet.bytes;
  };

  const kekOf = async (
    target: WrapTarget,
    signal: AbortSignal | undefined,
  ): Promise<RegisteredKek & { readonly registered: "registered" | "not-registered" }> => {
    switch (target.kind) {
      case "brokered":
        if (source === undefined) throw noRegistry();
        return { ...(await source.kekFor(target.place, { signal })), registered: "registered" };
      case "file": {
        const kek = await readKey(target.path);
        const uri = formatKbsUri({ ...target.place, tag: target.place.tag ?? options.runTag?.(target.place) ?? options.freshTag() });
        if (registry === undefined) return { uri, kek, registered: "not-registered" };
        return { ...(await registry.registerGiven(uri, kek, { signal })), registered: "registered" };
      }
      case "sample":
        if (options.sample === "refused") throw sampleRefused();
        return { ...sampleKek, registered: "not-registered" };
    }
  };

  const readKey = async (path: string): Promise<Uint8Array> => {
    const kek = await options.readKeyFile?.(path);
    if (kek?.length === 32) return kek;
    throw new KeyproviderError("ERR_KEYPROVIDER_KEY_FILE", {
      message:
        kek === undefined
          ? "this key provider reads no key files (keypath=)"
          : `the key file has ${kek.length} bytes (expected 32 raw bytes, no base64, no line end)`,
      hint: kek === undefined ? "start it with --key-dir DIR, or leave keypath out" : "make one with: ociseal key generate kek --out NAME",
    });
  };

  const unwrap = async (packet: Uint8Array, signal: AbortSignal | undefined) => {
    const unwrappers = [...(await options.unwrappers())];
    if (options.sample === "allowed")
      unwrappers.unshift(brokerUnwrapper({ broker: keksAtHand([sampleKek]), name: "the published sample key", reach: "local" }));
    const { optsdata } = await unwrapFirst([{ scheme: `provider.${agent}`, bytes: packet }], unwrappers, { signal });
    log?.({ operation: "unwrap", kid: undefined, registered: undefined });
    return optsdata;
  };

  return {
    async answer(request, { operation, signal } = {}) {
      signal?.throwIfAborted();
      const call = parseProviderCall(request, name);
      if (operation !== undefined && call.kind !== operation) throw malformedRequest(`asks to ${call.kind} where ${operation} was called`);
      switch (call.kind) {
        case "wrap":
          return formatReply("wrap", await wrap(call.parameters, call.optsdata, signal));
        case "unwrap":
          return formatReply("unwrap", await unwrap(call.packet, signal));
      }
    },
    close: () => source?.clear(),
  };
}

function noRegistry(): KeyproviderError {
  return new KeyproviderError("ERR_KEYPROVIDER_NO_REGISTRY", {
    message: "no Key Broker Service was named that would keep the key, so nobody could ever open the image",
    hint: "start the provider with --kbs URL --kbs-admin-token FILE, or wrap under a key of your own with keyid=…::keypath=…",
  });
}

function sampleRefused(): KeyproviderError {
  return new KeyproviderError("ERR_KEYPROVIDER_PARAMETER", {
    message: "sample wraps under a published key: everybody could open the image",
    hint: "for tests start the provider with --allow-sample",
  });
}
