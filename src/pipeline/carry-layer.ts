import { compose, type ByteStage, type ByteStream } from "../bytes/index.ts";
import { isForeignLayerMediaType, type Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader, ContentWriter } from "../store/index.ts";

/** Whether a layer may live elsewhere than in the image's repository. Source: OCI image-spec, descriptor.md, "urls". */
export function isForeignLayer({ mediaType, urls = [] }: Descriptor): boolean {
  return isForeignLayerMediaType(mediaType) || urls.length > 0;
}

/**
 * Stores a layer that stays as it is. One that lives at its own URL and not in the source is left there. A check sees
 * every byte, also when the destination has the layer already; it throws.
 */
export async function carryLayer(
  stores: { readonly from: ContentReader; readonly to: ContentWriter },
  layer: Descriptor,
  options: CallOptions,
  check?: ByteStage,
): Promise<Descriptor> {
  const { from, to } = stores;
  if (isForeignLayer(layer) && !(await from.exists(layer, options))) return layer;
  const source = async (): Promise<ByteStream> => {
    const stream = await from.fetch(layer, options);
    return check === undefined ? stream : compose(stream, check);
  };
  const outcome = await to.push(layer, source, options);
  if (check !== undefined && outcome !== "pushed") for await (const _ of await source()) options.signal?.throwIfAborted();
  return layer;
}
