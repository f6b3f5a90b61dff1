import type { Finding } from "../findings.ts";
import { newFindingSink } from "../refuse.ts";
import { parseEventLog, type LogEvent } from "./parse.ts";
import { checkReplay, type Rtmrs } from "./replay.ts";
import { secureBootOf, type SecureBootState } from "./secure-boot.ts";

/**
 * What became of an event log. A log that fails is no fault of the evidence, which holds without it, but every policy
 * refuses it: whoever sent it lied or was damaged.
 */
export type EventLogOutcome =
  | { readonly kind: "absent" }
  | { readonly kind: "replayed"; readonly events: readonly LogEvent[]; readonly secureBoot: SecureBootState }
  | { readonly kind: "failed"; readonly finding: Finding };

/** Parses and replays a log against the registers of a verified quote. */
export function replayEventLog(log: Uint8Array | undefined, rtmrs: Rtmrs): EventLogOutcome {
  if (log === undefined) return { kind: "absent" };
  const sink = newFindingSink();
  const events = sink.attempt(() => {
    const parsed = parseEventLog(log);
    checkReplay(parsed, rtmrs);
    return parsed;
  });
  const [finding] = sink.findings;
  if (events === undefined) {
    return {
      kind: "failed",
      finding: finding ?? { code: "EVENT_LOG_MALFORMED", severity: "refusal", path: "eventLog", message: "the event log cannot be read" },
    };
  }
  return { kind: "replayed", events, secureBoot: secureBootOf(events) };
}
