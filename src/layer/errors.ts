import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const layerErrors = {
  ERR_LAYER_MEDIA_TYPE: { category: "integrity", summary: "A layer's media type cannot be encrypted or decrypted." },
  ERR_LAYER_ALREADY_ENCRYPTED: { category: "usage", summary: "A layer to encrypt is encrypted already." },
  ERR_LAYER_NOT_ENCRYPTED: { category: "usage", summary: "A layer to open or rewrap is not encrypted." },
  ERR_LAYER_ANNOTATIONS_MISSING: { category: "integrity", summary: "A layer is marked as encrypted and lacks the encryption annotations." },
  ERR_LAYER_MARK_MISSING: { category: "integrity", summary: "A layer has encryption annotations and is not marked as encrypted." },
  ERR_LAYER_ANNOTATION_MALFORMED: { category: "integrity", summary: "An encryption annotation of a layer is malformed or too large." },
  ERR_LAYER_PRIVATE_OPTIONS: { category: "integrity", summary: "The unwrapped options of a layer are malformed." },
  ERR_LAYER_NO_RECIPIENT: { category: "usage", summary: "A layer would be left without any recipient." },
  ERR_LAYER_TOO_MANY_RECIPIENTS: { category: "usage", summary: "A layer would have more wrapped keys than readers take." },
  ERR_LAYER_RECIPIENT_NOT_FOUND: { category: "not-found", summary: "A recipient to remove is not among the layer's recipients." },
  ERR_LAYER_DIGEST_MISMATCH: {
    category: "integrity",
    summary: "The decrypted layer does not match the digest that was wrapped with its key.",
  },
  ERR_LAYER_PADDING: { category: "usage", summary: "A layer cannot be padded." },
} as const satisfies ErrorTable;

export class LayerError extends ToolError<keyof typeof layerErrors> {
  constructor(code: keyof typeof layerErrors, facts: ErrorFacts) {
    super(code, layerErrors[code].category, facts);
  }
}

export const askOwner = "the image was changed or made by a faulty tool; fetch it again, then report its digest to its owner";

export function malformedAnnotation(message: string, cause?: unknown): LayerError {
  return new LayerError("ERR_LAYER_ANNOTATION_MALFORMED", { message, cause, hint: askOwner });
}
