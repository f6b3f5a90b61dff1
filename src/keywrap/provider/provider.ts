import type { KeyUnwrapper, KeyWrapper, KeywrapOptions } from "../contract.ts";
import { providerOf, type ProviderConfig, type ProviderTarget } from "./config.ts";
import { parseReply, unwrapRequest, wrapRequest, type ProviderOperation } from "./protocol.ts";

export interface ProviderRequest {
  readonly config: ProviderConfig;
  /** The provider's name in the configuration; it becomes the end of the annotation's name. */
  readonly name: string;
  /** What follows `provider:NAME:`, one text per recipient; `Enabled` where nothing follows, as ocicrypt has it. */
  readonly parameters?: readonly string[] | undefined;
  /** The whole environment of a provider that is a program; the process's own unless told. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** For one call; 60 seconds when not given. */
  readonly timeoutMs?: number | undefined;
}

const defaultTimeoutMs = 60_000;
const noParameters = ["Enabled"];

/**
 * A recipient that a foreign key provider wraps for, all its parameters in one call, as ocicrypt does. Throws
 * `ERR_KEYWRAP_PROVIDER_CONFIG`.
 */
export function providerWrapper(request: ProviderRequest): KeyWrapper {
  const { name, parameters = noParameters } = request;
  const target = providerOf(request.config, name);
  const scheme = `provider.${name}` as const;
  return {
    name: `provider:${name}`,
    id: undefined,
    schemes: [scheme],
    async wrap(optsdata, options) {
      const reply = await ask(target, request, "keywrap", wrapRequest(name, parameters, optsdata), options);
      return [{ scheme, bytes: parseReply("keywrap", name, reply) }];
    },
  };
}

/**
 * Opens packets through a foreign key provider: those under its name in the annotations. It gets the packet and its
 * own parameters, never a private key or password of other schemes. Throws `ERR_KEYWRAP_PROVIDER_CONFIG`.
 */
export function providerUnwrapper(request: ProviderRequest): KeyUnwrapper {
  const { name, parameters = noParameters } = request;
  const target = providerOf(request.config, name);
  return {
    name: `provider:${name}`,
    reach: "remote",
    accepts: (scheme) => scheme === `provider.${name}`,
    async unwrap(packet, options) {
      const reply = await ask(target, request, "keyunwrap", unwrapRequest(name, parameters, packet.bytes), options);
      return parseReply("keyunwrap", name, reply);
    },
  };
}

/** HTTP/2 and child processes are loaded by whoever needs them. */
async function ask(
  target: ProviderTarget,
  request: ProviderRequest,
  operation: ProviderOperation,
  message: Buffer,
  options: KeywrapOptions = {},
): Promise<Buffer> {
  const call = { name: request.name, request: message, timeoutMs: request.timeoutMs ?? defaultTimeoutMs, signal: options.signal };
  switch (target.kind) {
    case "exec":
      return (await import("./exec.ts")).callProgram({ ...call, path: target.path, args: target.args, env: request.env });
    case "grpc":
      return (await import("./grpc.ts")).callService({ ...call, target: target.target, tls: target.tls, operation });
  }
}
