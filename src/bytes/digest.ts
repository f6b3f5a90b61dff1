import { createHash, hash, type Hash } from "node:crypto";
import type { ByteStage } from "./compose.ts";
import { BytesError } from "./errors.ts";

/** The algorithms that we accept, and the length of their hex form. Source: OCI image-spec, descriptor.md, "Registered Algorithms". */
const hexLengths = { sha256: 64, sha384: 96, sha512: 128 } as const;

export type DigestAlgorithm = keyof typeof hexLengths;

/** `algorithm:hex`, checked: lower-case hex of the algorithm's length, so it is safe as a file name. */
export type Digest = `${DigestAlgorithm}:${string}`;

const grammar = /^([a-z0-9]+):([0-9a-f]+)$/;

/** Whether a text is a digest that we accept. */
export function isDigest(text: string): text is Digest {
  const match = grammar.exec(text);
  if (match === null) return false;
  const [, algorithm = "", hex = ""] = match;
  return Object.hasOwn(hexLengths, algorithm) && hexLengths[algorithm as DigestAlgorithm] === hex.length;
}

/** Parses a digest. Throws `ERR_DIGEST_MALFORMED`. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new BytesError("ERR_DIGEST_MALFORMED", {
    message: `not a digest: ${JSON.stringify(text.slice(0, 160))} (expected sha256: and 64 lower-case hex digits, or sha384, sha512)`,
  });
}

export function digestAlgorithmOf(digest: Digest): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(":")) as DigestAlgorithm;
}

/** The hex part. */
export function encodedOf(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

/** An incremental hasher whose `digest()` call gives a {@link Digest}. */
export function newHasher(algorithm: DigestAlgorithm = "sha256"): { update(chunk: Uint8Array): void; digest(): Digest } {
  const hasher: Hash = createHash(algorithm);
  return {
    update: (chunk) => void hasher.update(chunk),
    digest: () => `${algorithm}:${hasher.digest("hex")}`,
  };
}

/** A hasher that may work in another thread. */
export interface ContentHasher {
  /** Where a promise is returned, it settles when more can be taken; until then the bytes must not change. */
  update(chunk: Uint8Array): Promise<void> | undefined;
  digest(): Digest | Promise<Digest>;
  /** For whoever gives up before the digest. */
  close(): void;
}

export type ContentHashing = (algorithm: DigestAlgorithm) => ContentHasher;

/** Hashes in this thread. */
export const hashHere: ContentHashing = (algorithm) => {
  const hasher = newHasher(algorithm);
  return {
    update(chunk) {
      hasher.update(chunk);
      return undefined;
    },
    digest: () => hasher.digest(),
    close: () => undefined,
  };
};

/** The digest of bytes in memory. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = "sha256"): Digest {
  return `${algorithm}:${hash(algorithm, bytes, "hex")}`;
}

/** Passes bytes through and reports their digest and size when the source has ended. */
export function digestStage(report: (address: { digest: Digest; size: number }) => void, algorithm: DigestAlgorithm = "sha256"): ByteStage {
  return async function* (source) {
    const hasher = newHasher(algorithm);
    let size = 0;
    for await (const chunk of source) {
      hasher.update(chunk);
      size += chunk.length;
      yield chunk;
    }
    report({ digest: hasher.digest(), size });
  };
}
