import { createGunzip, createZstdDecompress } from "node:zlib";
import { BytesError, newHasher, type ByteStage, type Digest } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { PipelineError } from "./errors.ts";

/** deflate expands at most 1032 to 1; whatever claims more is a bomb. */
const maxRatio = 1100;
const minOutput = 64 * 1024 * 1024;

type Decompressor = ReturnType<typeof createGunzip>;

const decompressors: readonly { readonly suffix: string; readonly create: () => Decompressor }[] = [
  { suffix: "gzip", create: () => createGunzip({ chunkSize: 256 * 1024 }) },
  { suffix: "zstd", create: () => createZstdDecompress({ chunkSize: 256 * 1024 }) },
];

/**
 * Passes a layer blob through while comparing the digest of its uncompressed form with the diffID that the image
 * configuration names. The last chunk is held back until it fits, so a wrong layer is never whole.
 * Ends with `ERR_DIFF_ID_MISMATCH`. Source: OCI image-spec, config.md, "Layer DiffID".
 */
export function checkDiffId(expected: Digest, mediaType: string, where: string): ByteStage {
  return async function* (source) {
    const hash = newHasher();
    const inflate = decompressors.find(({ suffix }) => mediaType.endsWith(suffix))?.create();
    const outcome = inflate === undefined ? undefined : drain(inflate, hash);
    let size = 0;
    let held: Uint8Array | undefined;
    try {
      for await (const chunk of source) {
        size += chunk.length;
        if (inflate === undefined) hash.update(chunk);
        else await feed(inflate, chunk, outcome, size);
        if (held !== undefined) yield held;
        held = chunk;
      }
      inflate?.end();
      const failure = await outcome?.done;
      if (failure !== undefined) throw mismatch(where, expected, `cannot be decompressed (${describeCause(failure)})`, failure);
    } finally {
      inflate?.destroy();
    }
    const got = hash.digest();
    compareDiffId(expected, got, where);
    if (held !== undefined) yield held;
  };
}

/** The same check where the digest of the uncompressed layer is known already. Throws `ERR_DIFF_ID_MISMATCH`. */
export function compareDiffId(expected: Digest, got: Digest, where: string): void {
  if (got !== expected) throw mismatch(where, expected, `has diffID ${got}`);
}

interface Drain {
  size: number;
  /** The error that ended it, `undefined` for a normal end; never rejects. */
  readonly done: Promise<unknown>;
}

function drain(inflate: Decompressor, hash: { update(chunk: Uint8Array): void }): Drain {
  const state = { size: 0, done: Promise.resolve<unknown>(undefined) };
  state.done = (async () => {
    try {
      for await (const chunk of inflate) {
        hash.update(chunk as Buffer);
        state.size += (chunk as Buffer).length;
      }
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  return state;
}

async function feed(inflate: Decompressor, chunk: Uint8Array, drained: Drain | undefined, input: number): Promise<void> {
  if (drained !== undefined && drained.size > minOutput + maxRatio * input) {
    throw new BytesError("ERR_CONTENT_TOO_LARGE", {
      message: "a layer decompresses to more than any real layer does",
      hint: "it is a decompression bomb; report the image",
    });
  }
  if (inflate.destroyed || inflate.write(chunk)) return;
  // Whoever ended the decompressor will never drain it.
  await new Promise<void>((resolve) => {
    inflate.once("drain", resolve);
    inflate.once("close", resolve);
  });
}

function mismatch(where: string, expected: Digest, got: string, cause?: unknown): PipelineError {
  return new PipelineError("ERR_DIFF_ID_MISMATCH", {
    message: `${where} ${got}; the image configuration says ${expected}`,
    hint: "the layers were exchanged, reordered or encrypted with another layer's key; ask the image's owner",
    cause,
  });
}
