/** Why bytes are not a protobuf message; each caller makes its own error of it. */
export class NotProtobuf extends Error {}

/**
 * The length-delimited fields of a message, the last of each number, which is protobuf's rule for what should not be
 * repeated. Other fields are passed over, as in every protobuf reader; groups are refused. Throws {@link NotProtobuf}.
 * Source: protobuf encoding.
 */
export function readFields(message: Uint8Array): ReadonlyMap<number, Uint8Array> {
  const fields = new Map<number, Uint8Array>();
  let at = 0;
  const skip = (length: number): Uint8Array => {
    if (length > message.length - at) throw new NotProtobuf("a field is cut");
    at += length;
    return message.subarray(at - length, at);
  };
  const varint = (): number => {
    let value = 0;
    for (let factor = 1, count = 0; count < 10; factor *= 128, count += 1) {
      const [byte = 0] = skip(1);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw new NotProtobuf("a number is too long");
  };
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    if (number === 0 || number > 0x1fff_ffff) throw new NotProtobuf("a field has no valid number");
    switch (tag % 8) {
      case 0:
        varint();
        break;
      case 1:
        skip(8);
        break;
      case 2:
        fields.set(number, skip(varint()));
        break;
      case 5:
        skip(4);
        break;
      default:
        throw new NotProtobuf("a field is of an unknown kind");
    }
  }
  return fields;
}

/** A message of one length-delimited field with the number 1. */
export function writeOnlyField(value: Uint8Array): Buffer {
  const head = [0x0a];
  let rest = value.length;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) head.push((rest % 128) | 0x80);
  head.push(rest);
  return Buffer.concat([Buffer.from(head), value]);
}
