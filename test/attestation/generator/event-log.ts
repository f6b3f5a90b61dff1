import { createHash } from "node:crypto";
import { uint16, uint32 } from "./dcap.ts";

export interface EventSpec {
  readonly register: number;
  readonly type: number;
  readonly data: Buffer;
  /** SHA-384 of the data unless given. */
  readonly digest?: Buffer;
}

const sha384 = (data: Uint8Array) => createHash("sha384").update(data).digest();

/** A CCEL area, ended by 0xff as firmware ends it. */
export function eventLog(events: readonly EventSpec[], fill = Buffer.alloc(64, 0xff)): Buffer {
  const spec = Buffer.concat([
    Buffer.from("Spec ID Event03\0", "latin1"),
    uint32(0),
    Buffer.from([0, 2, 0, 2]),
    uint32(1),
    uint16(0x0c),
    uint16(48),
    Buffer.from([0]),
  ]);
  const header = Buffer.concat([uint32(1), uint32(3), Buffer.alloc(20), uint32(spec.length), spec]);
  const body = events.map(({ register, type, data, digest }) =>
    Buffer.concat([uint32(register), uint32(type), uint32(1), uint16(0x0c), digest ?? sha384(data), uint32(data.length), data]),
  );
  return Buffer.concat([header, ...body, fill]);
}

/** UEFI_VARIABLE_DATA. */
export function variable(name: string, value: Buffer): Buffer {
  const text = Buffer.from(name, "utf16le");
  const lengths = Buffer.alloc(16);
  lengths.writeBigUInt64LE(BigInt(name.length), 0);
  lengths.writeBigUInt64LE(BigInt(value.length), 8);
  return Buffer.concat([Buffer.from("61dfe48bca93d211aa0d00e098032b8c", "hex"), lengths, text, value]);
}

export const secureBootEvent = (value: readonly number[]): EventSpec => ({
  register: 1,
  type: 0x80000001,
  data: variable("SecureBoot", Buffer.from(value)),
});

/** The registers that the events lead to. */
export function registersOf(events: readonly EventSpec[]): readonly Buffer[] {
  const registers = [0, 1, 2, 3].map(() => Buffer.alloc(48));
  for (const { register, type, data, digest } of events) {
    if (type === 3) continue;
    registers[register - 1] = sha384(Buffer.concat([registers[register - 1] ?? Buffer.alloc(48), digest ?? sha384(data)]));
  }
  return registers;
}
