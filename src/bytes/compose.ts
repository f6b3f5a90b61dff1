import { Readable } from "node:stream";

/** Bytes in pieces. A chunk is immutable once yielded. */
export type Chunks = AsyncIterable<Uint8Array>;

/** A transformation of bytes, written as an async generator. */
export type ByteStage = (source: Chunks) => Chunks;

/** What crosses room borders. Who receives one reads it to the end or destroys it. */
export type ByteStream = Readable;

/** Chunks that a composed stream reads ahead; of more, a failure would throw away some that were good and paid for. */
const bufferedChunks = 1;

/**
 * Joins stages to a source. The result ends with the error of whichever part failed first.
 *
 * The source is destroyed in every ending, also when the result is destroyed before a byte was read: a generator that
 * was never started does not run its `finally`, so the stages alone would leak the source's socket or file.
 */
export function compose(source: ByteStream, ...stages: readonly ByteStage[]): ByteStream {
  let chunks: Chunks = source;
  for (const stage of stages) chunks = stage(chunks);
  // In byte mode an iterating reader gets everything that is buffered, copied into one new block; in object mode the
  // chunks themselves.
  const result = streamOf(chunks, { release: () => source.destroy(), ahead: bufferedChunks });
  // A source that fails while nobody pulls must end the result, not crash the process.
  source.on("error", (error) => result.destroy(error));
  return result;
}

export interface StreamSettings {
  /** Called once the stream ends or is destroyed, started or not: closes what the chunks come from. */
  readonly release: () => void;
  /** Chunks that are read ahead. */
  readonly ahead: number;
}

/**
 * A stream of what a generator makes.
 *
 * A generator is asked to end only behind what it waits for, and one that was never started not at all. So what it waits
 * for is closed at the moment when the stream is destroyed; otherwise a source that stalls would keep the stream open.
 */
export function streamOf(chunks: Chunks, { release, ahead }: StreamSettings): ByteStream {
  const stream = Readable.from(chunks, { objectMode: true, highWaterMark: ahead });
  const end = stream._destroy.bind(stream);
  stream._destroy = (error, done) => {
    release();
    end(error, done);
  };
  return stream;
}

/** Ends a stream that will not be read, and waits until its resources are gone. */
export async function closeStream(stream: ByteStream): Promise<void> {
  if (stream.closed) return;
  const closed = new Promise<void>((resolve) => {
    stream.once("close", () => resolve());
    // Whoever closes is not interested in why a stream failed.
    stream.once("error", () => undefined);
  });
  stream.destroy();
  await closed;
}
