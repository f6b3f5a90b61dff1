import { isForeignLayerMediaType, type Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader, ContentWriter } from "../store/index.ts";

/** Whether a layer may live elsewhere than in the image's repository. Source: OCI image-spec, descriptor.md, "urls". */
export function isForeignLayer({ mediaType, urls = [] }: Descriptor): boolean {
  return isForeignLayerMediaType(mediaType) || urls.length > 0;
}

/** Stores a layer that stays as it is. One that lives at its own URL and not in the source is left there. */
export async function carryLayer(
  stores: { readonly from: ContentReader; readonly to: ContentWriter },
  layer: Descriptor,
  options: CallOptions,
): Promise<Descriptor> {
  const { from, to } = stores;
  if (isForeignLayer(layer) && !(await from.exists(layer, options))) return layer;
  await to.push(layer, () => from.fetch(layer, options), options);
  return layer;
}
