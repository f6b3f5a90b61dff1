import { createHash } from "node:crypto";
import { refuse } from "../refuse.ts";
import { eventTypes } from "./event-types.ts";
import type { LogEvent } from "./parse.ts";

export type Rtmrs = readonly [Buffer, Buffer, Buffer, Buffer];

/** The registers that a log leads to: RTMR := SHA-384(RTMR ‖ digest), from zero. `EV_NO_ACTION` is not extended. */
export function replay(events: readonly LogEvent[]): Rtmrs {
  const registers: [Buffer, Buffer, Buffer, Buffer] = [Buffer.alloc(48), Buffer.alloc(48), Buffer.alloc(48), Buffer.alloc(48)];
  for (const { register, type, digest } of events) {
    if (type === eventTypes.noAction) continue;
    const before = registers[register - 1];
    if (before === undefined) continue;
    registers[register - 1] = createHash("sha384").update(before).update(digest).digest();
  }
  return registers;
}

/** Refuses a log that does not lead to exactly these registers: then it proves nothing. */
export function checkReplay(events: readonly LogEvent[], rtmrs: Rtmrs): void {
  const replayed = replay(events);
  for (const [i, value] of replayed.entries()) {
    const expected = rtmrs[i];
    if (expected?.equals(value) === true) continue;
    throw refuse("EVENT_LOG_MISMATCH", {
      path: `eventLog.rtmr${i}`,
      message: `the event log does not lead to RTMR${i} of the quote, so it is not this guest's log`,
      expected: expected?.toString("hex"),
      actual: value.toString("hex"),
    });
  }
}

/** Whether the data of an event is what its digest is over. For some types the digest is over other bytes; then the data is hearsay. */
export function dataMatches({ data, digest }: LogEvent): boolean {
  return createHash("sha384").update(data).digest().equals(digest);
}
