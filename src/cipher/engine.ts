import { createCipheriv, createDecipheriv, createSecretKey } from "node:crypto";
import { chunkLayout } from "./sizes.ts";
import type { Engine } from "./names.ts";

/** AES-256-GCM under one key; 12-byte nonces, 16-byte tags after the ciphertext, no additional data. */
export interface GcmKey {
  /** Writes ciphertext and tag: `plain.length + 16` bytes of `out`. */
  seal(nonce: Uint8Array, plain: Uint8Array, out: Uint8Array): void;
  /** Writes `sealed.length - 16` bytes of `out` only after the tag was checked. */
  open(nonce: Uint8Array, sealed: Uint8Array, out: Uint8Array): "opened" | "does-not-verify";
}

/** AES-256-CTR with a 128-bit big-endian counter, one call after the other; every call but the last has a multiple of 16 bytes. */
export interface CtrStream {
  apply(input: Uint8Array, out: Uint8Array): void;
}

/** The two uses of AES in this room. */
export interface AesEngine {
  gcmKey(key: Uint8Array): GcmKey;
  ctrStream(key: Uint8Array, counterBlock: Uint8Array): CtrStream;
}

/** Loads an engine; @noble/ciphers only when it is asked for. */
export async function loadEngine(engine: Engine): Promise<AesEngine> {
  return engine === "node" ? nodeEngine : nobleEngine();
}

const { tagSize } = chunkLayout;

/**
 * Bytes of CTR that OpenSSL is given at once. Node makes a new buffer for the answer to each call: those of half a MiB come
 * from the kernel, page by page, and cost three times what the cipher does.
 */
const ctrStep = 1 << 14;

const nodeEngine: AesEngine = {
  gcmKey(key) {
    // A KeyObject, not raw bytes: with raw bytes Node 24 spends 20 to 30 µs per 16 KiB chunk instead of 9.
    const keyObject = createSecretKey(key);
    // Without authTagLength Node accepts tags of 4 bytes (measured).
    const options = { authTagLength: tagSize };
    return {
      seal(nonce, plain, out) {
        const cipher = createCipheriv("aes-256-gcm", keyObject, nonce, options);
        out.set(cipher.update(plain));
        cipher.final();
        out.set(cipher.getAuthTag(), plain.length);
      },
      open(nonce, sealed, out) {
        const end = sealed.length - tagSize;
        const decipher = createDecipheriv("aes-256-gcm", keyObject, nonce, options);
        decipher.setAuthTag(sealed.subarray(end));
        const plain = decipher.update(sealed.subarray(0, end));
        try {
          decipher.final();
        } catch {
          // The only failure that final() has here: the tag does not match.
          plain.fill(0);
          return "does-not-verify";
        }
        out.set(plain);
        return "opened";
      },
    };
  },
  ctrStream(key, counterBlock) {
    const cipher = createCipheriv("aes-256-ctr", createSecretKey(key), counterBlock);
    return {
      apply(input, out) {
        for (let at = 0; at < input.length; at += ctrStep) out.set(cipher.update(input.subarray(at, at + ctrStep)), at);
      },
    };
  },
};

async function nobleEngine(): Promise<AesEngine> {
  const { ctr, gcm } = await import("@noble/ciphers/aes.js");
  return {
    gcmKey: (key) => ({
      seal: (nonce, plain, out) => out.set(gcm(key, nonce).encrypt(plain)),
      open(nonce, sealed, out) {
        let plain: Uint8Array;
        try {
          plain = gcm(key, nonce).decrypt(sealed);
        } catch {
          return "does-not-verify";
        }
        out.set(plain);
        return "opened";
      },
    }),
    ctrStream(key, counterBlock) {
      let position = 0;
      return {
        apply(input, out) {
          out.set(ctr(key, counterAt(counterBlock, position)).encrypt(input));
          position += input.length;
        },
      };
    },
  };
}

/** The counter block for a byte position that is a multiple of 16: a 128-bit big-endian addition. */
export function counterAt(counterBlock: Uint8Array, position: number): Buffer {
  const sum = (BigInt(`0x${Buffer.from(counterBlock).toString("hex")}`) + BigInt(position / 16)) & ((1n << 128n) - 1n);
  return Buffer.from(sum.toString(16).padStart(32, "0"), "hex");
}
