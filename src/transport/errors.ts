import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const transportErrors = {
  ERR_IMAGE_TAG_MISMATCH: { category: "integrity", summary: "An image was named by tag and digest, and the tag points at another digest." },
  ERR_IMAGE_DIGEST_UNEXPECTED: {
    category: "integrity",
    summary: "The image to be written does not have the digest that its name demands.",
  },
  ERR_IMAGE_SOURCE_ONLY: { category: "usage", summary: "This transport can be a source but not a destination." },
} as const satisfies ErrorTable;

export class TransportError extends ToolError<keyof typeof transportErrors> {
  constructor(code: keyof typeof transportErrors, facts: ErrorFacts) {
    super(code, transportErrors[code].category, facts);
  }
}
