/** Plug-ins for other tools: ocicrypt's key provider protocol, and containerd's stream processor. */
export { keyproviderErrors, KeyproviderError } from "./errors.ts";
export { parseWrapTarget, type KeyPlace, type WrapTarget } from "./parameters.ts";
export type { KekRegistry, RegisteredKek } from "./kek-source.ts";
export { requestLimits, type ProviderOperation } from "./protocol.ts";
export { keyProvider, type AnswerOptions, type KeyProvider, type KeyProviderOptions, type ProviderEvent } from "./provider.ts";
export { serveKeyProvider, type CallEvent, type KeyProviderServer, type ServeLimits, type ServeRequest } from "./grpc/serve.ts";
export type { ProviderAddress, ProviderTls } from "./grpc/listen.ts";
export { parsePayload, payloadLimits, type LayerPayload, type PayloadKey } from "./containerd/payload.ts";
export { decodeLayer, type DecodeRequest } from "./containerd/decode.ts";
export { containerdConfig, type ContainerdConfigRequest } from "./containerd/config.ts";
