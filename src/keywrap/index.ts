/** Wraps and unwraps the private options of layers: JWE, keys kept at a KBS, and the other schemes of ocicrypt. */
export { keywrapErrors, KeywrapError } from "./errors.ts";
export type { KeyBroker, KeyPacket, KeyUnwrapper, KeyWrapper, RecipientDescription, KeywrapOptions, WrapScheme } from "./contract.ts";
export { formatKbsUri, isKbsUri, normalizeKbsUri, parseKbsUri, type KbsUri } from "./kbs-uri.ts";
export { parsePrivateKey, parsePublicKey, publicJwkOf, trimPassword, type KeyFileOptions, type RecipientKey } from "./key-files.ts";
export { jweWrapper, privateKeyUnwrapper, type JweAlgorithm, type JweWrapperRequest } from "./jwe.ts";
export { brokerUnwrapper, kbsWrapper, keksAtHand, type BrokerUnwrapperRequest, type KbsPackets, type KbsWrapperRequest } from "./kbs.ts";
export { unwrapFirst, type UnwrappedOptions } from "./unwrap.ts";
export { describePacket } from "./describe.ts";
export { withoutRecipients } from "./remove.ts";
export { parseProviderConfig, type ProviderConfig, type ProviderTarget, type ProviderTls } from "./provider/config.ts";
export { providerUnwrapper, providerWrapper, type ProviderRequest } from "./provider/provider.ts";
export { pkcs7Wrapper } from "./pkcs7.ts";
export { pgpUnwrapper, pgpWrapper, type PgpUnwrapperRequest, type PgpWrapperRequest } from "./pgp.ts";
export { pkcs11Unwrapper, pkcs11Wrapper, type OaepHash, type OaepToken } from "./pkcs11.ts";
export { isPkcs11Config, parsePkcs11Config, type Pkcs11Config } from "./pkcs11-config.ts";
export { recipientFrom, unwrapperFrom, type KeySources } from "./specs.ts";
