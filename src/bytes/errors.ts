import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const bytesErrors = {
  ERR_CONTENT_TRUNCATED: { category: "integrity", summary: "Content ended before its declared size." },
  ERR_CONTENT_TRAILING_DATA: { category: "integrity", summary: "Content went on after its declared size." },
  ERR_CONTENT_DIGEST_MISMATCH: { category: "integrity", summary: "Content does not match its digest." },
  ERR_CONTENT_TOO_LARGE: { category: "integrity", summary: "Content is larger than the limit for its kind." },
  ERR_DIGEST_MALFORMED: { category: "integrity", summary: "A digest is not of the form algorithm:hex, or its algorithm is unknown." },
  ERR_ENCODING_MALFORMED: { category: "integrity", summary: "Base64, base64url or hex text is malformed or not canonical." },
  ERR_JSON_MALFORMED: { category: "integrity", summary: "A JSON document is malformed, too large, too deep, or repeats a member." },
  ERR_INTERRUPTED: { category: "interrupted", summary: "The operation was interrupted." },
} as const satisfies ErrorTable;

export class BytesError extends ToolError<keyof typeof bytesErrors> {
  constructor(code: keyof typeof bytesErrors, facts: ErrorFacts) {
    super(code, bytesErrors[code].category, facts);
  }
}
