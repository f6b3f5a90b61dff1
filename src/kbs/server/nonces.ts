import { createHmac } from "node:crypto";
import { decodeBase64, encodeBase64, equalBytes } from "../../bytes/index.ts";
import { keyObjectOf } from "../keys/envelope.ts";
import type { Keyring } from "../keys/keyring.ts";
import { freshBytes } from "../random.ts";

const purpose = "challenge nonce";
const half = 16;

/**
 * Nonces that this installation recognises without a table: 16 random bytes and an HMAC over them under a key that all
 * replicas share. A guest sees 32 bytes that it could not have foreseen; and a token that another attestation service
 * signed shows by its nonce whether the evidence was made for a challenge of ours.
 *
 * Where no other service's tokens are taken, nobody asks whose a nonce is, and all of it is random.
 */
export class Nonces {
  readonly #keyring: Keyring;
  readonly #use: "recognised" | "unrecognised";

  constructor(keyring: Keyring, use: "recognised" | "unrecognised" = "recognised") {
    this.#keyring = keyring;
    this.#use = use;
  }

  /** Base64 (standard) of 32 bytes. */
  make(): string {
    if (this.#use === "unrecognised") return encodeBase64(freshBytes(2 * half));
    const random = freshBytes(half);
    const [key] = this.#keyring.derivedSecrets(purpose);
    return encodeBase64(Buffer.concat([random, key === undefined ? freshBytes(half) : tagOf(random, key.secret)]));
  }

  isOurs(nonce: string): boolean {
    let bytes: Buffer;
    try {
      bytes = decodeBase64(nonce);
    } catch {
      // Whatever is no base64 is no nonce of ours.
      return false;
    }
    if (bytes.length !== 2 * half) return false;
    const [random, tag] = [bytes.subarray(0, half), bytes.subarray(half)];
    return this.#keyring.derivedSecrets(purpose).some(({ secret }) => equalBytes(tagOf(random, secret), tag));
  }
}

function tagOf(random: Buffer, secret: Buffer): Buffer {
  return createHmac("sha256", keyObjectOf(secret)).update(random).digest().subarray(0, half);
}
