import { randomBytes, randomFillSync } from "node:crypto";

const pool = Buffer.allocUnsafeSlow(4096);
let next = pool.length;

/**
 * Random bytes of the system's generator, from a stock: asking OpenSSL for sixteen bytes costs as much as asking for a
 * thousand, and a handshake needs them ten times. `randomUUID` of Node does the same. What is given away is wiped here.
 */
export function freshBytes(size: number): Buffer {
  if (size > pool.length / 8) return randomBytes(size);
  if (next + size > pool.length) {
    randomFillSync(pool);
    next = 0;
  }
  const bytes = Buffer.from(pool.subarray(next, next + size));
  pool.fill(0, next, next + size);
  next += size;
  return bytes;
}
