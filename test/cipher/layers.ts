import {
  newDecryption,
  newEncryption,
  type CipherName,
  type Engine,
  type LayerDecryption,
  type PrivateOptions,
  type PublicOptions,
} from "../../src/cipher/index.ts";
import { chunksOf, read } from "./bytes.ts";

export const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
export const gcm = "AES_256_GCM_C2SP_CHUNKED_V1";
export const ctr = "AES_256_CTR_HMAC_SHA256";

/** Plaintext whose bytes tell where they stand. */
export function pattern(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i += 1) bytes[i] = (i * 7 + (i >> 8) * 13 + (i >> 16) * 5) & 0xff;
  return bytes;
}

export interface SealedBlob {
  readonly blob: Buffer;
  readonly publicOptions: PublicOptions;
  readonly privateOptions: PrivateOptions;
}

export interface SealOptions {
  readonly engine?: Engine;
  readonly chunkSize?: number;
  /** Without it a CTR layer gets no segment tags. */
  readonly plaintextSize?: number;
}

export async function sealed(cipher: CipherName, plaintext: Uint8Array, options: SealOptions = {}): Promise<SealedBlob> {
  const encryption = newEncryption({ cipher, mediaType, engine: options.engine, plaintextSize: options.plaintextSize });
  const blob = await read(encryption.stage(chunksOf(plaintext, options.chunkSize ?? 65536)));
  return { blob, publicOptions: encryption.publicOptions(), privateOptions: encryption.privateOptions };
}

export function opening(layer: SealedBlob, engine?: Engine, size = layer.blob.length): LayerDecryption {
  const { publicOptions, privateOptions } = layer;
  return newDecryption({ publicOptions, privateOptions, mediaType, ciphertextSize: size, engine });
}

export interface Outcome {
  readonly code: string;
  /** Plaintext that came out before the error. */
  readonly released: Buffer;
}

/** What comes of reading a stream: its bytes and the code of its error, `none` without one. */
export async function outcomeOf(open: () => Promise<AsyncIterable<Uint8Array>>): Promise<Outcome> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of await open()) chunks.push(chunk);
    return { code: "none", released: Buffer.concat(chunks) };
  } catch (cause) {
    const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : `not ours: ${String(cause)}`;
    return { code, released: Buffer.concat(chunks) };
  }
}
