// Every error has a stable code, a category with its exit code, and a hint.
import { exitCodeOf, ToolError } from "ociseal/errors";
import { parseImageName } from "ociseal/oci";

try {
  parseImageName("UPPER/case:1");
} catch (error) {
  if (!(error instanceof ToolError)) throw error;
  console.log(error.code, exitCodeOf(error.category), error.message);
}
