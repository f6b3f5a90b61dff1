import { timingSafeEqual } from "node:crypto";

/** Compares secrets or MACs in constant time; unequal lengths are unequal. */
export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}
