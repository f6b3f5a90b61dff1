import type { ByteStream } from "../bytes/index.ts";
import type { ByteRange, Engine } from "../cipher/index.ts";
import type { KeyUnwrapper } from "../keywrap/index.ts";
import { checkEncryptionMark, isEncryptedLayer, openLayer } from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { PipelineError } from "./errors.ts";

export interface ReadLayerRequest {
  readonly store: ContentReader;
  readonly layer: Descriptor;
  readonly unwrappers: readonly KeyUnwrapper[];
  /** Bytes `[start, end)` of the plaintext; the whole layer unless told. */
  readonly range?: ByteRange | undefined;
  readonly engine?: Engine | undefined;
}

/**
 * The plaintext of one layer, or a range of it for which only the chunks that hold it are fetched. Only verified bytes
 * come out. A range of a plain layer cannot be verified and is refused (`ERR_NOT_ENCRYPTED`).
 *
 * Throws what `openLayer` and the store throw, `ERR_CIPHER_RANGE` for a range outside the layer.
 */
export async function readLayer(request: ReadLayerRequest, options: CallOptions = {}): Promise<ByteStream> {
  const { store, layer, unwrappers, range, engine } = request;
  checkEncryptionMark(layer);
  if (!isEncryptedLayer(layer)) {
    if (range === undefined) return store.fetch(layer, options);
    throw new PipelineError("ERR_NOT_ENCRYPTED", {
      message: `layer ${layer.digest} of ${store.name} is plain, so a part of it cannot be verified`,
      hint: "read the whole layer: leave --range away",
    });
  }
  const opened = await openLayer({ layer, unwrappers, engine }, options);
  const source = (part?: ByteRange): Promise<ByteStream> => store.fetch(layer, part === undefined ? options : { ...options, range: part });
  return range === undefined ? opened.open(source) : opened.openRange(source, range);
}
