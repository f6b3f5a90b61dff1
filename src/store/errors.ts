import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const storeErrors = {
  ERR_STORE_NOT_FOUND: { category: "not-found", summary: "An image, tag or blob is not in the store." },
} as const satisfies ErrorTable;

export class StoreError extends ToolError<keyof typeof storeErrors> {
  constructor(code: keyof typeof storeErrors, facts: ErrorFacts) {
    super(code, storeErrors[code].category, facts);
  }
}
