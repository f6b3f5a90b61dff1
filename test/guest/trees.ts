import { execFileSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { digestOf } from "../../src/bytes/index.ts";
import type { Ownership } from "../../src/guest/index.ts";

/** Whether devices, foreign owners and chroot work here. */
export const isRoot = process.geteuid?.() === 0;

/** What keeps owners where that works; elsewhere root's files, which missing parents are too, belong to the caller. */
export const keptOwnership: Ownership = isRoot ? { kind: "preserve" } : { kind: "map", ...callersIds() };

function callersIds() {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  const ranges = (host: number) => [0, host].map((container) => ({ container, host, size: 1 }));
  return { uids: ranges(uid), gids: ranges(gid) };
}

/** Everything about a tree that unpacking decides, one line per name, sorted; names as latin1. */
export function treeOf(root: string): readonly string[] {
  const lines: string[] = [];
  const inodes = new Map<number, string>();
  const visit = (path: Buffer, shown: string) => {
    const stats = lstatSync(path);
    const facts: unknown[] = [shown, (stats.mode >>> 0).toString(8), stats.uid, stats.gid, Math.floor(stats.mtimeMs / 1000)];
    if (stats.isDirectory()) {
      lines.push(facts.join(" "));
      for (const name of readdirSync(path, { encoding: "buffer" }).toSorted((left, right) => left.compare(right))) {
        visit(Buffer.concat([path, Buffer.from("/"), name]), `${shown}/${name.toString("latin1")}`);
      }
      return;
    }
    const first = inodes.get(stats.ino);
    if (first !== undefined) facts.push(`= ${first}`);
    else if (stats.nlink > 1) inodes.set(stats.ino, shown);
    if (stats.isFile()) facts.push(stats.size, digestOf(readFileSync(path)));
    else if (stats.isSymbolicLink()) facts.push(readlinkSync(path, "buffer").toString("latin1"));
    else facts.push(stats.rdev);
    lines.push(facts.join(" "));
  };
  visit(Buffer.from(root), "");
  return lines;
}

/** Names below a folder, sorted. */
export function namesIn(root: string): readonly string[] {
  return readdirSync(root, { recursive: true, encoding: "utf8" }).toSorted();
}

function works(program: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Whether setfattr is installed; says so aloud when not. */
export function missingSetfattr(): boolean {
  if (works("setfattr", "--version") && works("getfattr", "--version")) return false;
  if (process.env["CI"]) throw new Error("SKIPPED: setfattr is not installed (package attr)");
  process.stderr.write("SKIPPED: tests of extended attributes: setfattr is not installed (package attr)\n");
  return true;
}

/** Extended attributes of a file as `name=hex` lines, sorted. */
export function xattrsOf(path: string): readonly string[] {
  return execFileSync("getfattr", ["-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", path], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line.includes("=0x"))
    .toSorted();
}
