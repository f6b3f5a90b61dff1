import type { KeyPacket, KeyUnwrapper, KeyWrapper, KeywrapOptions, RecipientDescription } from "../keywrap/index.ts";
import { describePacket, unwrapFirst, withoutRecipients } from "../keywrap/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { checkPackets, encryptionAnnotations, writeEncryptionAnnotations } from "./annotations.ts";
import { checkPrivateOptions } from "../cipher/index.ts";
import { LayerError } from "./errors.ts";
import { checkSealedLayer } from "./open.ts";
import { parsePrivateOptions } from "./options-json.ts";

export interface RewrapRequest {
  readonly layer: Descriptor;
  /** Needed only when recipients are added. */
  readonly unwrappers?: readonly KeyUnwrapper[] | undefined;
  /** Added; a recipient that is there already gets fresh packets in place of its old ones. */
  readonly add?: readonly KeyWrapper[] | undefined;
  /** Decides about each recipient that is there. */
  readonly remove?: ((recipient: RecipientDescription) => "remove" | "keep") | undefined;
}

export interface RewrappedLayer {
  /** The same blob and media type; only the annotations of wrapped keys differ. */
  readonly layer: Descriptor;
  readonly added: readonly string[];
  readonly removed: readonly RecipientDescription[];
  readonly recipients: readonly RecipientDescription[];
}

/**
 * Changes who can open a layer, without touching its blob. Packets that nobody here can read are kept.
 *
 * Who was removed and kept the old manifest, or the layer key, can still open the same blob: only encrypting again
 * changes that. Throws `ERR_LAYER_NO_RECIPIENT` when nobody would remain, `ERR_LAYER_TOO_MANY_RECIPIENTS`, and what `unwrapFirst` throws.
 */
export async function rewrapLayer(request: RewrapRequest, options: KeywrapOptions = {}): Promise<RewrappedLayer> {
  const { layer, unwrappers = [], add = [], remove = () => "keep" } = request;
  const { annotations, publicOptions } = checkSealedLayer(layer);
  const ids = new Set(add.map(({ id }) => id).filter((id) => id !== undefined));
  const removed: RecipientDescription[] = [];
  const kept: KeyPacket[] = [];
  for (const packet of annotations.packets) {
    const gone: number[] = [];
    describePacket(packet).forEach((recipient, index) => {
      const replaced = recipient.id !== undefined && ids.has(recipient.id);
      if (remove(recipient) === "remove") removed.push(recipient);
      else if (!replaced) return;
      gone.push(index);
    });
    const rest = withoutRecipients(packet, gone);
    if (rest !== undefined) kept.push(rest);
  }
  const packets = [...kept];
  if (add.length > 0) {
    const { optsdata } = await unwrapFirst(annotations.packets, unwrappers, options);
    // A damaged packet must not be handed on to new recipients.
    checkPrivateOptions(publicOptions.cipher, parsePrivateOptions(optsdata));
    for (const wrapper of add) packets.push(...(await wrapper.wrap(optsdata, options)));
  }
  if (packets.length === 0) {
    throw new LayerError("ERR_LAYER_NO_RECIPIENT", {
      message: "the layer would be left without any recipient",
      hint: "add the new recipient in the same call with --add",
    });
  }
  const recipients = packets.flatMap((packet) => describePacket(packet));
  if (add.length === 0 && removed.length === 0) return { layer, added: [], removed, recipients };
  checkPackets(packets);
  const others = Object.fromEntries(
    Object.entries(layer.annotations ?? {}).filter(([name]) => !isKeyAnnotation(name, annotations.foreign)),
  );
  const written = writeEncryptionAnnotations(others, layer.annotations?.[encryptionAnnotations.publicOptions] ?? "", packets);
  return {
    layer: { ...layer, annotations: written },
    added: add.map(({ name }) => name),
    removed,
    recipients,
  };
}

function isKeyAnnotation(name: string, foreign: readonly string[]): boolean {
  return name.startsWith(encryptionAnnotations.keys) && !foreign.includes(name);
}
