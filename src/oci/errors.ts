import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const ociErrors = {
  ERR_IMAGE_NAME_MALFORMED: { category: "usage", summary: "An image name, tag or platform on the command line is malformed." },
  ERR_MANIFEST_MALFORMED: { category: "integrity", summary: "A manifest, index, descriptor or image configuration is malformed." },
  ERR_MANIFEST_UNSUPPORTED: { category: "integrity", summary: "A manifest has a media type or schema version that is not supported." },
} as const satisfies ErrorTable;

export class OciError extends ToolError<keyof typeof ociErrors> {
  constructor(code: keyof typeof ociErrors, facts: ErrorFacts) {
    super(code, ociErrors[code].category, facts);
  }
}
