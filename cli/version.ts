import { readFileSync } from "node:fs";

/** The version that package.json says, two folders above the compiled file and one above the source. */
export function readVersion(): string {
  for (const path of ["../../package.json", "../package.json"]) {
    try {
      const document: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
      if (typeof document === "object" && document !== null && "version" in document && "name" in document && document.name === "ociseal") {
        return String(document.version);
      }
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  return "unknown";
}
