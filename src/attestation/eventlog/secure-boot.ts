import { createHash } from "node:crypto";
import { eventTypes } from "./event-types.ts";
import type { LogEvent } from "./parse.ts";
import { dataMatches } from "./replay.ts";

/** `unknown`: the log does not settle it, which counts as off wherever secure boot is required. */
export type SecureBootState = "on" | "off" | "unknown";

/** EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it stands in memory. */
const globalVariable = Buffer.from("61dfe48bca93d211aa0d00e098032b8c", "hex");
const name = Buffer.from("SecureBoot", "utf16le");

/** UEFI_VARIABLE_DATA of the SecureBoot variable. Source: TCG PC Client Platform Firmware Profile 1.06, section 10.2.6. */
function variableData(value: Buffer): Buffer {
  const lengths = Buffer.alloc(16);
  lengths.writeBigUInt64LE(BigInt(name.length / 2), 0);
  lengths.writeBigUInt64LE(BigInt(value.length), 8);
  return Buffer.concat([globalVariable, lengths, name, value]);
}

const sha384 = (data: Buffer) => createHash("sha384").update(data).digest();
const rtmr0 = 1;

/**
 * Whether a log *that replays* proves secure boot.
 *
 * Replay authenticates digests and nothing else: whoever controls the guest can relabel an event's type or data in the
 * log, and can append events of their own to RTMR0 after boot. So the digests decide: every firmware measures the
 * variable once, and its few possible values have known digests. "On" needs the digest of the value 1 (with an event that
 * says so), before the separator with which firmware hands over, and that of no other value, wherever and under whatever
 * type it stands.
 */
export function secureBootOf(events: readonly LogEvent[]): SecureBootState {
  const on = sha384(variableData(Buffer.from([1])));
  const off = [Buffer.from([0]), Buffer.alloc(0)].map((value) => sha384(variableData(value)));
  const registered = events.filter(({ register, type }) => register === rtmr0 && type !== eventTypes.noAction);
  if (registered.some(({ digest }) => off.some((value) => value.equals(digest)))) return "off";
  const stated = registered.filter((event) => event.type === eventTypes.variableDriverConfig && isSecureBoot(event.data));
  if (stated.some((event) => !event.digest.equals(on) || !dataMatches(event))) return "unknown";
  const separator = sha384(Buffer.alloc(4));
  const handOver = registered.findIndex(({ digest }) => digest.equals(separator));
  const first = registered.findIndex(({ digest }) => digest.equals(on));
  return stated.length > 0 && (handOver < 0 || first < handOver) ? "on" : "unknown";
}

function isSecureBoot(data: Buffer): boolean {
  return data.subarray(0, 16).equals(globalVariable) && data.subarray(32, 32 + name.length).equals(name);
}
