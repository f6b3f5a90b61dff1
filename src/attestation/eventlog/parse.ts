import { refuse } from "../refuse.ts";
import { eventTypes } from "./event-types.ts";

/** One event of a confidential-computing log. */
export interface LogEvent {
  /** Measurement register: 1 to 4 are RTMR0 to RTMR3. */
  readonly register: number;
  readonly type: number;
  /** SHA-384. What replay authenticates; nothing else about an event is authenticated by itself. */
  readonly digest: Buffer;
  readonly data: Buffer;
}

const maxLogSize = 4 * 1024 * 1024;
const maxEvents = 16_384;
const maxDigests = 8;
const sha384 = 0x000c;
/** Digest sizes by TCG algorithm id. Source: TCG Algorithm Registry, table 3. */
const digestSizes: ReadonlyMap<number, number> = new Map([
  [0x0004, 20],
  [0x000b, 32],
  [sha384, 48],
  [0x000d, 64],
  [0x0012, 32],
]);
const specIdSignature = Buffer.from("Spec ID Event03\0", "latin1");

/** A cursor that refuses to run past the end. */
interface Cursor {
  at: number;
  readonly input: Buffer;
}

/**
 * Parses a CCEL area: the specification event in the old layout, then events with crypto-agile digests, until a marker
 * of 0xff bytes, zero fill or the end. Every count and size is bounded before it is used; at most 4 MiB and 16384 events.
 * Source: TCG PC Client Platform Firmware Profile 1.06, section 10; UEFI 2.11 section 38.4 (registers of TDX).
 */
export function parseEventLog(bytes: Uint8Array): readonly LogEvent[] {
  if (bytes.length > maxLogSize) throw malformed(`the event log has ${bytes.length} bytes, more than ${maxLogSize}`);
  const cursor: Cursor = { at: 0, input: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  readSpecification(cursor);
  const events: LogEvent[] = [];
  while (!atEnd(cursor)) {
    if (events.length >= maxEvents) throw malformed(`the event log has more than ${maxEvents} events`);
    events.push(readEvent(cursor));
  }
  return events;
}

function atEnd({ input, at }: Cursor): boolean {
  const rest = input.length - at;
  if (rest === 0) return true;
  if (rest < 8) return input.subarray(at).every((byte) => byte === input[at] && (byte === 0 || byte === 0xff));
  const low = input.readUInt32LE(at);
  const high = input.readUInt32LE(at + 4);
  return (low === 0xff_ff_ff_ff || low === 0) && (high === low || low === 0xff_ff_ff_ff);
}

function readSpecification(cursor: Cursor): void {
  readWord(cursor);
  const type = readWord(cursor);
  take(cursor, 20);
  const data = take(cursor, readWord(cursor));
  if (type !== eventTypes.noAction || !data.subarray(0, 16).equals(specIdSignature)) {
    throw malformed("the event log does not start with a specification event of crypto-agile logs");
  }
  const inner: Cursor = { at: 24, input: data };
  const count = readWord(inner);
  if (count > maxDigests) throw malformed(`the event log announces ${count} digest algorithms`);
  let announced = false;
  for (let i = 0; i < count; i += 1) {
    const algorithm = readHalf(inner);
    const size = readHalf(inner);
    if (digestSizes.get(algorithm) !== size)
      throw malformed(`the event log announces an unknown digest algorithm 0x${algorithm.toString(16)}`);
    announced ||= algorithm === sha384;
  }
  if (!announced) throw malformed("the event log carries no SHA-384 digests");
  take(inner, take(inner, 1)[0] ?? 0);
  if (inner.at !== data.length) throw malformed("bytes follow the specification event's vendor data");
}

function readEvent(cursor: Cursor): LogEvent {
  const register = readWord(cursor);
  const type = readWord(cursor);
  const count = readWord(cursor);
  if (register < 1 || register > 4) throw malformed(`an event is for measurement register ${register}, which is none of RTMR0 to RTMR3`);
  if (count > maxDigests) throw malformed(`an event has ${count} digests`);
  let digest: Buffer | undefined;
  for (let i = 0; i < count; i += 1) {
    const algorithm = readHalf(cursor);
    const size = digestSizes.get(algorithm);
    if (size === undefined) throw malformed(`an event has a digest of the unknown algorithm 0x${algorithm.toString(16)}`);
    const value = take(cursor, size);
    if (algorithm !== sha384) continue;
    if (digest !== undefined) throw malformed("an event has two SHA-384 digests");
    digest = value;
  }
  if (digest === undefined) throw malformed("an event has no SHA-384 digest");
  return { register, type, digest, data: take(cursor, readWord(cursor)) };
}

function readWord(cursor: Cursor): number {
  return take(cursor, 4).readUInt32LE(0);
}

function readHalf(cursor: Cursor): number {
  return take(cursor, 2).readUInt16LE(0);
}

function take(cursor: Cursor, size: number): Buffer {
  const end = cursor.at + size;
  if (end > cursor.input.length) throw malformed("the event log ends inside an event");
  const part = cursor.input.subarray(cursor.at, end);
  cursor.at = end;
  return part;
}

function malformed(message: string) {
  return refuse("EVENT_LOG_MALFORMED", { path: "eventLog", message });
}
