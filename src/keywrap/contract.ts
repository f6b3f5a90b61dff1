/** How a layer's private options are wrapped; the end of the annotation's name, `provider.NAME` for key providers. */
export type WrapScheme = "jwe" | "pkcs7" | "pgp" | "pkcs11" | `provider.${string}`;

/** One wrapped copy of a layer's private options: what stands, in base64, as one element of an annotation. */
export interface KeyPacket {
  readonly scheme: WrapScheme;
  readonly bytes: Uint8Array;
}

/** Who can open a packet, as far as the packet itself tells. */
export interface RecipientDescription {
  readonly scheme: WrapScheme;
  /**
   * What names the recipient: an RFC 7638 thumbprint or other `kid`, a KBS URI, an issuer and serial number, a PGP key
   * id, a provider's name; `undefined` when the packet does not say.
   */
  readonly id: string | undefined;
  readonly kind: "public-key" | "kbs" | "certificate" | "pgp" | "pkcs11" | "provider";
  /** The algorithm that wraps, as the scheme spells it. */
  readonly algorithm: string | undefined;
}

export interface KeywrapOptions {
  readonly signal?: AbortSignal | undefined;
}

/** One recipient: wraps the private options of layers for it. */
export interface KeyWrapper {
  /** What to call the recipient in messages and reports. */
  readonly name: string;
  /** The `id` that {@link RecipientDescription} will show for its packets; `undefined` when they will not say. */
  readonly id: string | undefined;
  /** The schemes of the packets that it writes, in order. */
  readonly schemes: readonly WrapScheme[];
  /** One packet per scheme. `optsdata` is the JSON of the private options; it is not kept. */
  wrap(optsdata: Uint8Array, options?: KeywrapOptions): Promise<readonly KeyPacket[]>;
}

/** Keys of one holder: opens packets that are for them. */
export interface KeyUnwrapper {
  readonly name: string;
  /** Whether opening leaves this process: those that do not are tried first, so that no key is asked for needlessly. */
  readonly reach: "local" | "remote";
  /** Whether a packet of this scheme can be for these keys at all. */
  accepts(scheme: WrapScheme): boolean;
  /**
   * The private options; `undefined` when the packet is not for these keys. Throws when it is, and does not open, or
   * when whoever keeps the key refuses.
   */
  unwrap(packet: KeyPacket, options?: KeywrapOptions): Promise<Uint8Array | undefined>;
}

/** Hands out key encryption keys: a KBS after attestation, or a table of keys at hand. */
export interface KeyBroker {
  /**
   * The raw bytes kept under a normal KBS URI (`kbs:///repository/type/tag`); `undefined` when this broker does not
   * serve it at all. Throws when it does and refuses, or lacks it.
   */
  fetchKey(uri: string, options?: KeywrapOptions): Promise<Uint8Array | undefined>;
}
