import { readFileSync } from "node:fs";

/**
 * The text of a file of the page. Bundles hold the texts themselves: scripts/bundle.ts replaces this module, for there
 * is no folder beside them.
 */
export function readPageFile(name: string): string {
  return readFileSync(new URL(`./page/${name}`, import.meta.url), "utf8");
}
