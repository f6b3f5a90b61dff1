import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { parseEventLog, replay, secureBootOf } from "../../src/attestation/index.ts";
import { replayEventLog } from "../../src/attestation/eventlog/outcome.ts";
import { eventLog, registersOf, secureBootEvent, variable, type EventSpec } from "./generator/event-log.ts";
import { uint32 } from "./generator/dcap.ts";

const kernel: EventSpec = { register: 2, type: 0x80000003, data: Buffer.from("kernel") };
const separator: EventSpec = { register: 1, type: 4, data: Buffer.alloc(4) };
const finding = (code: string) => expect.objectContaining({ finding: expect.objectContaining({ code }) as unknown }) as Error;

describe("an event log", () => {
  it("replays to the registers that its digests lead to, without EV_NO_ACTION", () => {
    const events = [secureBootEvent([1]), kernel, { register: 1, type: 3, data: Buffer.from("no action") }, separator];
    for (const fill of [Buffer.alloc(64, 0xff), Buffer.alloc(64), Buffer.alloc(0), Buffer.alloc(8, 0xff)]) {
      const parsed = parseEventLog(eventLog(events, fill));
      expect(parsed).toHaveLength(4);
      expect(replay(parsed)).toEqual(registersOf(events));
    }
  });

  it("that does not lead to the quote's registers has failed, whichever register differs", () => {
    const events = [secureBootEvent([1]), kernel];
    const good = registersOf(events);
    const log = eventLog(events);
    const rtmrs = (list: readonly Buffer[]) => [list[0], list[1], list[2], list[3]] as unknown as Parameters<typeof replayEventLog>[1];
    expect(replayEventLog(log, rtmrs(good))).toMatchObject({ kind: "replayed", secureBoot: "on" });
    for (const i of [0, 1, 2, 3]) {
      const bent = good.map((value, k) => (k === i ? Buffer.alloc(48, 1) : value));
      expect(replayEventLog(log, rtmrs(bent))).toMatchObject({
        kind: "failed",
        finding: { code: "EVENT_LOG_MISMATCH", path: `eventLog.rtmr${i}` },
      });
    }
    expect(replayEventLog(undefined, rtmrs(good))).toEqual({ kind: "absent" });
  });

  const whole = eventLog([secureBootEvent([1]), kernel], Buffer.alloc(0));
  it.each([
    ["nothing", Buffer.alloc(0)],
    ["no specification event", Buffer.alloc(100, 1)],
    ["an event cut in its data", whole.subarray(0, -1)],
    ["an event for register 5", eventLog([{ ...kernel, register: 5 }])],
    ["an event for MRTD", eventLog([{ ...kernel, register: 0 }])],
    ["a huge digest count", Buffer.concat([whole, uint32(1), uint32(4), uint32(0x7fffffff)])],
    ["an unknown digest algorithm", Buffer.concat([whole, uint32(1), uint32(4), uint32(1), Buffer.from([0x99, 0x99]), Buffer.alloc(64)])],
    ["no digest", Buffer.concat([whole, uint32(1), uint32(4), uint32(0), uint32(0)])],
    [
      "a huge data size",
      Buffer.concat([whole, uint32(1), uint32(4), uint32(1), Buffer.from([0x0c, 0]), Buffer.alloc(48), uint32(0xfffffff0)]),
    ],
    ["too many bytes", Buffer.alloc(4 * 1024 * 1024 + 1)],
  ])("with %s is refused", (_what, log) => {
    expect(() => parseEventLog(log)).toThrow(finding("EVENT_LOG_MALFORMED"));
  });
});

describe("secure boot", () => {
  const digestOf = (value: readonly number[]) =>
    createHash("sha384")
      .update(variable("SecureBoot", Buffer.from(value)))
      .digest();
  const state = (events: readonly EventSpec[]) => secureBootOf(parseEventLog(eventLog(events)));

  it("is on, off or unknown as the firmware measured it", () => {
    expect(state([secureBootEvent([1]), separator])).toBe("on");
    expect(state([secureBootEvent([0]), separator])).toBe("off");
    expect(state([secureBootEvent([]), separator])).toBe("off");
    expect(state([separator])).toBe("unknown");
    expect(state([secureBootEvent([2])])).toBe("unknown");
  });

  it("is not believed when the data says on and the digest does not", () => {
    expect(state([{ ...secureBootEvent([1]), digest: digestOf([0]) }])).toBe("off");
    expect(state([{ ...secureBootEvent([1]), digest: Buffer.alloc(48, 7) }])).toBe("unknown");
  });

  it("is not won by relabelling the true event and appending another, for labels are not authenticated", () => {
    const hidden: EventSpec = { register: 1, type: 6, data: Buffer.from("harmless"), digest: digestOf([0]) };
    expect(state([hidden, separator, secureBootEvent([1])])).toBe("off");
  });

  it("is not won by an event behind the separator, which firmware cannot have measured", () => {
    expect(state([separator, secureBootEvent([1])])).toBe("unknown");
    expect(state([secureBootEvent([1]), separator, secureBootEvent([1])])).toBe("on");
  });

  it("counts in RTMR0 only", () => {
    expect(state([{ ...secureBootEvent([1]), register: 4 }])).toBe("unknown");
  });
});
