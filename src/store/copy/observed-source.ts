import { compose, type ByteStream } from "../../bytes/index.ts";
import type { Descriptor } from "../../oci/index.ts";
import type { BlobSource } from "../content-store.ts";
import { withLocalFile } from "../disk/local-file.ts";
import { withResumption } from "../disk/resumable.ts";
import { isVerifiedFor, markVerified } from "../verified-stream.ts";
import type { CopyEvent } from "./copy-events.ts";

/** Content at the source, and the ways to its bytes. */
export interface ObservedContent {
  readonly target: Descriptor;
  readonly open: () => Promise<ByteStream>;
  /** From an offset to the end, unverified. */
  readonly openAt?: (offset: number) => Promise<ByteStream>;
  /** The file that holds it, where there is one. */
  readonly localPath?: string | undefined;
}

/** A source that tells its progress, and remembers its failure so that the destination is not blamed for it. */
export class ObservedSource {
  readonly #content: ObservedContent;
  readonly #report: (event: CopyEvent) => void;
  failure: { readonly error: unknown } | undefined;

  constructor(content: ObservedContent, report: (event: CopyEvent) => void) {
    this.#content = content;
    this.#report = report;
  }

  /** As `push` takes it. A destination of files may take a file without a stream, or begin in the middle. */
  asBlobSource(): BlobSource {
    const { target, open, openAt, localPath } = this.#content;
    const source = () => this.#observed(open, 0);
    if (localPath !== undefined) {
      return withLocalFile(source, {
        path: localPath,
        onStart: () => this.#start(0),
        onMoved: (size) => this.#report({ kind: "moved", descriptor: target, size }),
        onFailure: (error) => {
          this.failure = { error };
        },
      });
    }
    return openAt === undefined ? source : withResumption(source, { openAt: (offset) => this.#observed(() => openAt(offset), offset) });
  }

  #start(kept: number): void {
    this.failure = undefined;
    this.#report({ kind: "started", descriptor: this.#content.target, ...(kept === 0 ? {} : { kept }) });
  }

  async #observed(open: () => Promise<ByteStream>, kept: number): Promise<ByteStream> {
    const { target } = this.#content;
    this.#start(kept);
    try {
      const stream = await open();
      const observed = compose(stream, (source) => this.#observe(source));
      return isVerifiedFor(stream, target) ? markVerified(observed, target) : observed;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }

  async *#observe(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of source) {
        this.#report({ kind: "moved", descriptor: this.#content.target, size: chunk.length });
        yield chunk;
      }
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}
