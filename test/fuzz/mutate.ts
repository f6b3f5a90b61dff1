/** A small random source with a seed, so that a failing input can be made again. Source: xorshift32 (Marsaglia 2003). */
export interface RandomSource {
  /** A whole number from 0 to `limit - 1`. */
  below(limit: number): number;
}

export function randomSource(seed: number): RandomSource {
  let state = seed >>> 0 || 1;
  return {
    below: (limit) => {
      state ^= state << 13;
      state >>>= 0;
      state ^= state >>> 17;
      state ^= state << 5;
      state >>>= 0;
      return limit <= 1 ? 0 : state % limit;
    },
  };
}

/** Values at which length and count checks tend to be wrong. */
const interesting = [0, 1, 2, 0x7f, 0x80, 0x81, 0x82, 0x83, 0x84, 0x88, 0xff, 0x30, 0xa0, 0xa3, 0x04, 0x02] as const;
const words = [0, 1, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff] as const;

/** One to four changes of a seed: bits, bytes, words, cuts, repeats, and pieces of another seed. */
export function mutate(seed: Uint8Array, other: Uint8Array, random: RandomSource): Buffer {
  let bytes = Buffer.from(seed);
  for (let round = 1 + random.below(4); round > 0; round -= 1) bytes = mutateOnce(bytes, other, random);
  return bytes;
}

function mutateOnce(bytes: Buffer, other: Uint8Array, random: RandomSource): Buffer<ArrayBuffer> {
  const at = random.below(bytes.length);
  const copy = Buffer.from(bytes);
  switch (random.below(8)) {
    case 0:
      if (copy.length > 0) copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
      return copy;
    case 1:
      if (copy.length > 0) copy[at] = interesting[random.below(interesting.length)] ?? 0;
      return copy;
    case 2:
      if (copy.length >= 4) copy.writeUInt32LE(words[random.below(words.length)] ?? 0, random.below(copy.length - 3));
      return copy;
    case 3:
      return copy.subarray(0, at);
    case 4:
      return Buffer.concat([copy.subarray(0, at), Buffer.alloc(random.below(64), random.below(256)), copy.subarray(at)]);
    case 5:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(Math.min(copy.length, at + 1 + random.below(32)))]);
    case 6: {
      const from = random.below(other.length);
      return Buffer.concat([
        copy.subarray(0, at),
        other.subarray(from, from + random.below(200)),
        copy.subarray(Math.min(copy.length, at + random.below(200))),
      ]);
    }
    default: {
      const size = 1 + random.below(Math.min(64, Math.max(1, copy.length)));
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at, at + size), copy.subarray(at)]);
    }
  }
}
