import { newHasher, type DigestAlgorithm } from "../bytes/index.ts";
import type { TransformResults } from "./plan.ts";
import { uncompressedHasher, type Compression } from "./uncompressed.ts";

/** What is computed of a transform's output on the way, in whichever thread it comes about. */
export interface OutputWatch {
  readonly hashOutput?: OutputHash | undefined;
  /** The output is a layer stored so: also hash what it uncompresses to. Only of plans that write verified plaintext. */
  readonly uncompress?: Compression | undefined;
}

/** Hash the output, behind a prefix that the transform does not write. */
export interface OutputHash {
  /** SHA-256 when not given. */
  readonly algorithm?: DigestAlgorithm | undefined;
  readonly prefix?: Uint8Array | undefined;
}

export interface OutputWatcher {
  /** Settles when the output is no longer needed. */
  update(output: Uint8Array): Promise<void>;
  /** After the last output. */
  results(): Promise<TransformResults>;
}

/** Throws `ERR_CIPHER_UNCOMPRESS`. */
export function watchOutput({ hashOutput, uncompress }: OutputWatch): OutputWatcher {
  const hasher = hashOutput === undefined ? undefined : newHasher(hashOutput.algorithm);
  if (hashOutput?.prefix !== undefined) hasher?.update(hashOutput.prefix);
  const uncompressed = uncompress === undefined ? undefined : uncompressedHasher(uncompress);
  return {
    async update(output) {
      hasher?.update(output);
      await uncompressed?.update(output);
    },
    results: async () => ({
      ...(hasher === undefined ? {} : { outputDigest: hasher.digest() }),
      ...(uncompressed === undefined ? {} : { uncompressed: await uncompressed.digest() }),
    }),
  };
}
