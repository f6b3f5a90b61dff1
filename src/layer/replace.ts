import { describePacket, type KeyPacket, type KeywrapOptions, type RecipientDescription } from "../keywrap/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { encryptionAnnotations, writeEncryptionAnnotations } from "./annotations.ts";
import { checkSealedLayer } from "./open.ts";
import type { RewrappedLayer } from "./rewrap.ts";

/** Gives another packet in place of one; `undefined` keeps it. */
export type PacketReplacer = (
  packet: KeyPacket,
  recipients: readonly RecipientDescription[],
  options: KeywrapOptions,
) => Promise<KeyPacket | undefined>;

/**
 * Replaces wrapped keys of a layer by what somebody else made of them, a KBS that re-wraps: nothing is unwrapped here.
 * Throws what checking the layer and the replacer throw.
 */
export async function replacePackets(layer: Descriptor, replace: PacketReplacer, options: KeywrapOptions = {}): Promise<RewrappedLayer> {
  const { annotations } = checkSealedLayer(layer);
  const added: string[] = [];
  const removed: RecipientDescription[] = [];
  const packets: KeyPacket[] = [];
  for (const packet of annotations.packets) {
    const recipients = describePacket(packet);
    const other = await replace(packet, recipients, options);
    packets.push(other ?? packet);
    if (other === undefined) continue;
    removed.push(...recipients);
    added.push(...describePacket(other).map(({ id, scheme }) => id ?? scheme));
  }
  if (added.length === 0) return { layer, added, removed, recipients: packets.flatMap((packet) => describePacket(packet)) };
  const others = Object.fromEntries(
    Object.entries(layer.annotations ?? {}).filter(
      ([name]) => !name.startsWith(encryptionAnnotations.keys) || annotations.foreign.includes(name),
    ),
  );
  const written = writeEncryptionAnnotations(others, layer.annotations?.[encryptionAnnotations.publicOptions] ?? "", packets);
  return { layer: { ...layer, annotations: written }, added, removed, recipients: packets.flatMap((packet) => describePacket(packet)) };
}
