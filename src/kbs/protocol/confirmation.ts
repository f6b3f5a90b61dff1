import { createHmac, hkdfSync } from "node:crypto";
import { encodeBase64Url } from "../../bytes/index.ts";

/** Bytes of the challenge that a confirmation answers. */
export const challengeSize = 32;
/** Shorter values are not confirmed: whoever may ask could guess them. */
export const minConfirmedSize = 16;

/**
 * Proof that a service holds a value, for somebody who knows the value and may not read it.
 *
 * HMAC-SHA-256 under a key derived from the value, over the challenge, path and version. It reveals nothing about a
 * random value, and a service that dropped or changed the value cannot answer a fresh challenge.
 */
export function confirmationOf(
  value: Uint8Array,
  about: { readonly path: string; readonly version: number; readonly challenge: Uint8Array },
): string {
  const key = Buffer.from(hkdfSync("sha256", value, "", "ociseal-kbs/1 confirmation", 32));
  const mac = createHmac("sha256", key).update(about.challenge).update(`\0${about.path}\0${about.version}`).digest();
  return encodeBase64Url(mac);
}
