/** Base class, categories and exit codes of every error this package throws. */
export { categories, exitCodeOf, type ErrorCategory } from "./categories.ts";
export { ToolError, InternalError, describeCause, type ErrorRow, type ErrorTable, type ErrorFacts } from "./tool-error.ts";
