import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const ociErrors = {
  ERR_IMAGE_NAME_MALFORMED: { category: "usage", summary: "An image name, tag or platform on the command line is malformed." },
  ERR_MANIFEST_MALFORMED: { category: "integrity", summary: "A manifest, index, descriptor or image configuration is malformed." },
  ERR_MANIFEST_UNSUPPORTED: { category: "integrity", summary: "A manifest has a media type or schema version that is not supported." },
  ERR_MANIFEST_TOO_LARGE: { category: "usage", summary: "A manifest that is about to be pushed is larger than registries accept (4 MiB)." },
  ERR_PLATFORM_NOT_FOUND: { category: "not-found", summary: "An image index has no image for the platform that was asked for." },
} as const satisfies ErrorTable;

export class OciError extends ToolError<keyof typeof ociErrors> {
  constructor(code: keyof typeof ociErrors, facts: ErrorFacts) {
    super(code, ociErrors[code].category, facts);
  }
}
