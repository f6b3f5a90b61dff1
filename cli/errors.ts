import { ToolError, type ErrorFacts, type ErrorTable } from "../src/errors/index.ts";

export const cliErrors = {
  ERR_USAGE: { category: "usage", summary: "The command line is wrong: an unknown flag, a missing or malformed argument." },
  ERR_TARGET_EXISTS: { category: "io", summary: "The target folder or file already exists." },
} as const satisfies ErrorTable;

export class CliError extends ToolError<keyof typeof cliErrors> {
  constructor(code: keyof typeof cliErrors, facts: ErrorFacts) {
    super(code, cliErrors[code].category, facts);
  }
}

/** A wrong command line. */
export function usage(message: string, hint?: string): CliError {
  return new CliError("ERR_USAGE", { message, hint });
}
