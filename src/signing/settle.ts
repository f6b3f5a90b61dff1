import { setTimeout as wait } from "node:timers/promises";
import type { CallOptions } from "../store/index.ts";
import { SigningError } from "./errors.ts";

/**
 * Keeps an addition to a document that other writers replace as a whole.
 *
 * A registry has no compare-and-swap (docker-registry 2.8 ignores If-Match), so two writers who read the same state
 * lose one addition; measured with cosign, six times out of six. The remedy is that of Fischer's lock: after writing,
 * wait longer than anybody needs between reading and writing, then look again. A writer who overwrote us in the
 * meantime is found then, and so is everything that *he* lost: what was once seen is added again (the union is kept
 * by the caller), so the writers protect each other.
 *
 * The wait grows with the time that our own read-and-write took, and with every sign of another writer.
 */
export interface Settling {
  /** What is kept, for the message: the tag. */
  readonly subject: string;
  /** Reads the present state and writes what is missing; `complete` when nothing was. */
  readonly attempt: () => Promise<"complete" | "written">;
}

const settling = { attempts: 60, minMs: 40, maxMs: 4000, factor: 4, quietRounds: 2 } as const;

/** Runs attempts until the state stayed complete. Throws `ERR_SIGNATURE_NOT_KEPT` after many. */
export async function settle({ subject, attempt }: Settling, options: CallOptions): Promise<void> {
  let spanMs = 0;
  let written = 0;
  let quiet = 0;
  for (let round = 0; round < settling.attempts; round += 1) {
    const start = performance.now();
    const outcome = await attempt();
    if (outcome === "written") {
      spanMs = Math.max(spanMs, performance.now() - start);
      written += 1;
      quiet = 0;
    } else {
      quiet += 1;
      // Alone: one look after the write. Not alone: the other writers may be several, look once more.
      if (written === 0 || quiet >= (written === 1 ? 1 : settling.quietRounds)) return;
    }
    const pauseMs = Math.min(settling.maxMs, Math.max(settling.minMs, settling.factor * spanMs) * written);
    await wait(pauseMs * (0.75 + Math.random() / 2), undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
  throw new SigningError("ERR_SIGNATURE_NOT_KEPT", {
    message: `${subject} was written ${written} times, and other writers replaced it each time`,
    hint: "wait until the other signing jobs are done, and sign again",
  });
}
