import { setTimeout as wait } from "node:timers/promises";
import type { CallOptions } from "../store/index.ts";
import { SigningError } from "./errors.ts";

/** One look at a document that several writers replace as a whole. */
export interface Attempt {
  /**
   * `complete`: everything that was ever seen is there. `raced`: somebody wrote between reading and writing. `collided`: the
   * store refused because of somebody who writes now.
   */
  readonly outcome: "complete" | "written" | "raced" | "collided";
  /** Whether anything stood there that this writer had neither written nor seen before. */
  readonly saw: "news" | "nothing-new";
}

/**
 * Keeps an addition to a document that other writers replace as a whole.
 *
 * A registry has no compare-and-swap (docker-registry 2.8 ignores If-Match), so two writers who read the same state
 * lose one addition; measured with cosign, six times out of six. The remedy is that of Fischer's lock: after writing,
 * wait longer than a writer needs between reading and writing, then look again. A writer who overwrote us in the
 * meantime is found then, and so is everything that *he* lost: what was once seen is added again (the caller keeps the
 * union), so the writers protect each other.
 *
 * The wait grows with the time that our own reading and writing took: where we are slow, so are the others. Alone, one
 * look after writing suffices; with others at work the state must have been complete several times in a row.
 */
export interface Settling {
  /** What is kept, for the message: the tag. */
  readonly subject: string;
  readonly attempt: () => Promise<Attempt>;
}

const settling = { attempts: 100, minMs: 80, maxMs: 4000, factor: 2, maxBackoff: 32, quietRounds: { alone: 1, contended: 2 } } as const;

/** Runs attempts until the state stayed complete. Throws `ERR_SIGNATURE_NOT_KEPT` after many. */
export async function settle({ subject, attempt }: Settling, options: CallOptions): Promise<void> {
  let spanMs = 0;
  let written = 0;
  let quiet = 0;
  let races = 0;
  let isContended = false;
  for (let round = 0; round < settling.attempts; round += 1) {
    const start = performance.now();
    const { outcome, saw } = await attempt();
    // Only a round that went through to the write shows how long one takes.
    if (outcome !== "complete")
      spanMs = (spanMs === 0 ? performance.now() - start : spanMs + performance.now() - start) / (spanMs === 0 ? 1 : 2);
    if (outcome === "complete" && written === 0 && races === 0) return;
    if (outcome === "written") written += 1;
    races = outcome === "raced" || outcome === "collided" ? races + 1 : 0;
    // What stood there before our first write is no sign of a writer at work now.
    if (races > 0 || written > 1 || (saw === "news" && round > 0)) isContended = true;
    quiet = outcome === "complete" && saw === "nothing-new" ? quiet + 1 : 0;
    if (quiet >= (isContended ? settling.quietRounds.contended : settling.quietRounds.alone)) return;
    const windowMs = Math.min(settling.maxMs, Math.max(settling.minMs, settling.factor * spanMs));
    // Who lost a race waits anywhere in a growing interval, so that the writers come one by one.
    const pauseMs = races === 0 ? windowMs * (1 + Math.random() / 2) : Math.random() * spanMs * Math.min(settling.maxBackoff, 2 ** races);
    await wait(pauseMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
  throw new SigningError("ERR_SIGNATURE_NOT_KEPT", {
    message: `${subject} was written ${written} times, and other writers replaced it each time`,
    hint: "wait until the other signing jobs are done, and sign again",
  });
}
