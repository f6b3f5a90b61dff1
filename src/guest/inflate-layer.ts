import { digestAlgorithmOf, newHasher, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { compressionOf, decompress } from "./decompress.ts";
import { GuestError } from "./errors.ts";
import type { InflateJob, InflateThread } from "./inflate-thread.ts";
import type { Budget } from "./limits.ts";

/** The stored, decrypted form of a layer: what its plain media type says. Reading it to its end verifies it. */
export interface PlainLayer {
  readonly mediaType: string;
  readonly stream: ByteStream;
  /** Where the stream's chunks are the reader's alone and there are many: a thread that may inflate them. */
  readonly thread?: InflateThread | undefined;
  /** The descriptor of the plain layer, once its address is known. */
  readonly descriptor: (plaintext: ContentAddress) => Descriptor;
}

export interface InflateRequest {
  readonly plain: Pick<PlainLayer, "mediaType" | "stream" | "thread">;
  readonly budget: Budget;
  readonly diffId: Digest;
  /** Told the compressed bytes read so far. */
  readonly progress: (compressedBytes: number) => void;
  /** Takes the tar stream piece by piece, before its end is verified. */
  readonly consume: (chunk: Buffer) => void;
}

/** Reads one layer to its end: inflates and hashes. Throws `ERR_GUEST_DIFF_ID_MISMATCH` and what reading throws. */
export async function inflateLayer(request: InflateRequest): Promise<void> {
  const { plain, budget, diffId, progress, consume } = request;
  const { stream, thread } = plain;
  let compressed = 0;
  let uncompressed = 0;
  const job: InflateJob = {
    compression: compressionOf(plain),
    stream,
    limits: budget.limits,
    algorithm: digestAlgorithmOf(diffId),
    progress(size) {
      compressed += size;
      progress(compressed);
    },
  };
  const release = budget.guardStream(stream);
  const chunks = thread === undefined ? inflateHere(job) : thread.inflate(job);
  try {
    let next = await chunks.next();
    for (; next.done !== true; next = await chunks.next()) {
      uncompressed += next.value.length;
      budget.checkTime();
      budget.checkRatio(compressed, uncompressed);
      consume(next.value);
    }
    if (next.value !== diffId) {
      throw new GuestError("ERR_GUEST_DIFF_ID_MISMATCH", {
        message: `the uncompressed layer does not match its diffID (expected ${diffId}, got ${next.value})`,
        hint: "the configuration does not belong to these layers, or a layer was decrypted with another key; build or encrypt the image again",
      });
    }
  } finally {
    release();
    stream.destroy();
    await chunks.return(diffId);
  }
}

async function* inflateHere({ compression, stream, limits, algorithm, progress }: InflateJob): AsyncGenerator<Buffer, Digest> {
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      progress(chunk.length);
      yield chunk;
    }
  }
  const hasher = newHasher(algorithm);
  for await (const chunk of decompress(compression, counted(), limits)) {
    hasher.update(chunk);
    yield chunk;
  }
  return hasher.digest();
}

/** Adds to an error of this room in which layer it happened; others already say what they are about. */
export function inLayer(error: unknown, index: number, layer: Descriptor): unknown {
  if (!(error instanceof GuestError)) return error;
  return new GuestError(error.code, {
    message: `layer ${index + 1}: ${error.message}`,
    hint: error.hint,
    details: { ...error.details, layer: index, digest: layer.digest },
    cause: error,
  });
}
