import type { JsonObject, JsonValue } from "../attester/json.ts";
import { eventTypeName, eventTypes } from "./event-types.ts";
import type { LogEvent } from "./parse.ts";
import { dataMatches } from "./replay.ts";

/** Largest event data that is repeated in claims; above it only the digest is. */
const maxDataInClaims = 1024;

/** Events under the names of Trustee's verifier (`uefi_event_logs`). Data appears only where its digest vouches for it. */
export function eventClaims(events: readonly LogEvent[]): readonly JsonValue[] {
  // What is not measured proves nothing, so it is not claimed.
  return events
    .filter(({ type }) => type !== eventTypes.noAction)
    .map((event): JsonObject => {
      const matches = dataMatches(event);
      return {
        index: event.register,
        type_name: eventTypeName(event.type),
        digests: [{ alg: "SHA-384", digest: event.digest.toString("hex") }],
        digest_matches_event: matches,
        details: matches ? detailsOf(event.data) : {},
      };
    });
}

function detailsOf(data: Buffer): JsonObject {
  if (data.length === 0 || data.length > maxDataInClaims) return {};
  const text = data.toString("utf8").replace(/\0+$/, "");
  // Printable text is shown as such; everything else as hex.
  // oxlint-disable-next-line no-control-regex -- control characters are exactly what must not be shown
  if (!/[\u0000-\u0008\u000b-\u001f\ufffd]/.test(text)) return { string: text };
  return { data: data.toString("hex") };
}
