import { createHash } from "node:crypto";
import { lstatSync, readFileSync, readdirSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";

export interface Comparison {
  readonly files: number;
  readonly differences: readonly string[];
}

/** Compares two trees entry by entry: type, mode, ownership, size, content, link target, modification time. */
export function compareTrees(left: string, right: string): Comparison {
  const names = [...new Set([...listing(left), ...listing(right)])].toSorted();
  const differences = names.flatMap((name) => difference(join(left, name), join(right, name)).map((what) => `${name}: ${what}`));
  return { files: names.length, differences };
}

function listing(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" });
}

function difference(left: string, right: string): readonly string[] {
  const [a, b] = [statOf(left), statOf(right)];
  if (a === undefined || b === undefined) return [a === undefined ? "only in the second" : "only in the first"];
  const found = (["mode", "uid", "gid", "mtimeMs"] as const)
    .filter((key) => a[key] !== b[key])
    .map((key) => `${key} ${a[key]} and ${b[key]}`);
  if (a.isSymbolicLink() && b.isSymbolicLink() && readlinkSync(left) !== readlinkSync(right)) found.push("link target");
  if (a.isFile() && b.isFile() && hash(left) !== hash(right)) found.push("content");
  return found;
}

function statOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function hash(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
