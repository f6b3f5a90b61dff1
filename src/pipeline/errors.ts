import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const pipelineErrors = {
  ERR_LAYER_CHOICE: { category: "usage", summary: "A chosen layer does not exist in the image, or the choice is malformed." },
  ERR_IMAGE_TOO_DEEP: { category: "integrity", summary: "Indexes are nested deeper, or name more manifests, than any real image." },
  ERR_LAYER_FOREIGN: {
    category: "integrity",
    summary: "A layer lives at a foreign URL (nondistributable), so it cannot be encrypted here.",
  },
  ERR_LAYER_UNENCRYPTABLE: { category: "integrity", summary: "A layer's media type has no encrypted counterpart." },
  ERR_ALREADY_ENCRYPTED: { category: "usage", summary: "A layer is already encrypted; recipients are changed with rewrap." },
  ERR_NOT_ENCRYPTED: { category: "usage", summary: "Nothing in the image is encrypted." },
  ERR_DIFF_ID_MISMATCH: { category: "integrity", summary: "A decrypted layer is not the one that the image configuration names." },
  ERR_POSTCONDITION: { category: "integrity", summary: "The destination does not hold what was written there." },
  ERR_PROFILE_REFUSED: { category: "usage", summary: "The chosen profile's readers would not open the result." },
  ERR_NO_RECIPIENT: { category: "usage", summary: "Nobody could open the result: no recipient is left." },
} as const satisfies ErrorTable;

export class PipelineError extends ToolError<keyof typeof pipelineErrors> {
  constructor(code: keyof typeof pipelineErrors, facts: ErrorFacts) {
    super(code, pipelineErrors[code].category, facts);
  }
}
