import type { Digest } from "../../bytes/index.ts";
import type { Descriptor } from "../../oci/index.ts";
import type { PushOutcome } from "../content-store.ts";

/** `skipped`: a layer that its image says is to be fetched from elsewhere, and the source does not have. */
export type CopyOutcome = PushOutcome | "skipped";

/** What a copy tells while it runs, from several objects at once; `descriptor.digest` tells them apart. */
export type CopyEvent =
  /** Known now to belong to the copy; the sum of sizes so far is the total so far. */
  | { readonly kind: "found"; readonly descriptor: Descriptor; readonly role: "manifest" | "blob" }
  /** Its bytes begin to move, after `kept` of an interrupted copy. Comes again when a transfer has to be repeated. */
  | { readonly kind: "started"; readonly descriptor: Descriptor; readonly kept?: number }
  /** `size` more bytes of it have moved. */
  | { readonly kind: "moved"; readonly descriptor: Descriptor; readonly size: number }
  | { readonly kind: "finished"; readonly descriptor: Descriptor; readonly outcome: CopyOutcome }
  | { readonly kind: "tagged"; readonly descriptor: Descriptor; readonly reference: string };

/** How many objects ended how, and the bytes of those that were pushed. */
export interface CopySummary {
  readonly pushed: number;
  readonly present: number;
  readonly mounted: number;
  readonly skipped: number;
  readonly pushedBytes: number;
}

/** Counts what finished; an object that had to be sent after all counts once, as pushed. */
export class CopyTally {
  readonly #ended = new Map<Digest, { readonly outcome: CopyOutcome; readonly size: number }>();

  add({ digest, size }: Descriptor, outcome: CopyOutcome): void {
    this.#ended.set(digest, { outcome, size });
  }

  summary(): CopySummary {
    const sum = { pushed: 0, present: 0, mounted: 0, skipped: 0, pushedBytes: 0 };
    for (const { outcome, size } of this.#ended.values()) {
      sum[outcome] += 1;
      if (outcome === "pushed") sum.pushedBytes += size;
    }
    return sum;
  }
}
