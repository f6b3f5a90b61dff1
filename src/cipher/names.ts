import { CipherError } from "./errors.ts";

/** What the public options of a layer call its cipher. Source: ocicrypt blockcipher; ours: C2SP chunked-encryption (Cobblestone-256). */
export type CipherName = "AES_256_GCM_C2SP_CHUNKED_V1" | "AES_256_CTR_HMAC_SHA256";

/** How the command line spells a cipher. */
export type CipherSpelling = "aes-256-gcm" | "aes-256-ctr-hmac-sha256";

/**
 * Who computes AES: OpenSSL through `node:crypto`, or @noble/ciphers, written in JavaScript and about thirty to a
 * hundred times slower; it needs no native code and is the second opinion in tests.
 */
export type Engine = "node" | "noble";

interface CipherRow {
  readonly spelling: CipherSpelling;
  /** Bytes of the layer key. */
  readonly keySize: number;
  /** Largest plaintext in bytes that we write or read. */
  readonly maxPlaintextSize: number;
  /** Whether unmodified skopeo, podman, CRI-O, containerd/imgcrypt and CoCo image-rs open it. */
  readonly readers: "ociseal" | "every ocicrypt";
}

/** Every layer cipher there is; an unknown name is an error, never a default. */
export const ciphers: Readonly<Record<CipherName, CipherRow>> = {
  AES_256_GCM_C2SP_CHUNKED_V1: { spelling: "aes-256-gcm", keySize: 32, maxPlaintextSize: 2 ** 50, readers: "ociseal" },
  AES_256_CTR_HMAC_SHA256: { spelling: "aes-256-ctr-hmac-sha256", keySize: 32, maxPlaintextSize: 2 ** 50, readers: "every ocicrypt" },
};

export const cipherNames = Object.keys(ciphers) as readonly CipherName[];

/** Whether a name in public options is a cipher that we know. */
export function isCipherName(name: string): name is CipherName {
  return Object.hasOwn(ciphers, name);
}

/** Checks the cipher name of foreign public options. Throws `ERR_CIPHER_UNKNOWN`. */
export function parseCipherName(name: string): CipherName {
  if (isCipherName(name)) return name;
  throw new CipherError("ERR_CIPHER_UNKNOWN", {
    message: `unknown layer cipher ${JSON.stringify(name.slice(0, 80))} (known: ${cipherNames.join(", ")})`,
    hint: "the image needs a newer ociseal, or the tool that encrypted it",
    details: { cipher: name.slice(0, 80) },
  });
}

/** Reads `--cipher`: our spelling or the name in the format. Throws `ERR_CIPHER_NAME_UNKNOWN`. */
export function parseCipherSpelling(text: string): CipherName {
  const found = cipherNames.find((name) => name === text || ciphers[name].spelling === text);
  if (found !== undefined) return found;
  const known = cipherNames.map((name) => ciphers[name].spelling).join(", ");
  throw new CipherError("ERR_CIPHER_NAME_UNKNOWN", {
    message: `no such cipher: ${JSON.stringify(text.slice(0, 80))} (expected one of ${known})`,
    hint: "leave --cipher out for aes-256-gcm",
  });
}
