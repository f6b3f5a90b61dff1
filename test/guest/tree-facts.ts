import { execFileSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { digestOf } from "../../src/bytes/index.ts";

/** What unpacking decides about one name, by the name of the fact. */
type Facts = Readonly<Record<string, string | undefined>>;

/** Facts by path from the root, which is ".". Names are latin1 text of their bytes. */
export type TreeFacts = ReadonlyMap<string, Facts>;

/** Everything that unpacking decides about a tree. Needs getfattr. */
export function factsOf(root: string): TreeFacts {
  const xattrs = xattrsBelow(root);
  const facts = new Map<string, Facts>();
  const names = new Map<bigint, string>();
  const visit = (path: Buffer, shown: string) => {
    const stats = lstatSync(path, { bigint: true });
    const first = names.get(stats.ino);
    if (first === undefined && !stats.isDirectory()) names.set(stats.ino, shown);
    facts.set(shown, {
      mode: stats.mode.toString(8),
      owner: `${stats.uid}:${stats.gid}`,
      mtime: stats.mtimeNs.toString(),
      device: stats.isCharacterDevice() || stats.isBlockDevice() ? stats.rdev.toString() : undefined,
      content: stats.isFile() ? digestOf(readFileSync(path)) : undefined,
      link: stats.isSymbolicLink() ? readlinkSync(path, "buffer").toString("latin1") : undefined,
      sameFileAs: first,
      xattrs: xattrs.get(shown),
    });
    if (!stats.isDirectory()) return;
    for (const name of readdirSync(path, { encoding: "buffer" }).toSorted((left, right) => left.compare(right))) {
      visit(Buffer.concat([path, Buffer.from("/"), name]), `${shown}/${name.toString("latin1")}`);
    }
  };
  visit(Buffer.from(root), ".");
  return facts;
}

/** Extended attributes by path, as getfattr shows them. */
function xattrsBelow(root: string): ReadonlyMap<string, string> {
  const text = execFileSync("getfattr", ["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."], {
    cwd: root,
    encoding: "latin1",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const found = new Map<string, string>();
  for (const block of text.split("\n\n")) {
    const [title = "", ...lines] = block.trim().split("\n");
    const path = title.replace("# file: ", "");
    if (lines.length > 0) found.set(path === "." ? "." : `./${path}`, lines.toSorted().join(" "));
  }
  return found;
}

export interface Difference {
  readonly path: string;
  readonly fact: string;
  readonly ours: string | undefined;
  readonly theirs: string | undefined;
}

/** Where two trees differ; a name that only one of them has is one difference, of the fact "exists". */
export function differences(ours: TreeFacts, theirs: TreeFacts): readonly Difference[] {
  const found: Difference[] = [];
  for (const path of new Set([...ours.keys(), ...theirs.keys()])) {
    const [left, right] = [ours.get(path), theirs.get(path)];
    if (left === undefined || right === undefined) {
      found.push({ path, fact: "exists", ours: left === undefined ? "no" : "yes", theirs: right === undefined ? "no" : "yes" });
      continue;
    }
    for (const fact of Object.keys(left)) {
      if (!isSame(fact, left[fact], right[fact])) found.push({ path, fact, ours: left[fact], theirs: right[fact] });
    }
  }
  return found;
}

/** Node.js sets times as doubles, which near 2^31 seconds are some 0.2 µs apart. */
const timeResolutionNs = 1000;

function isSame(fact: string, left: string | undefined, right: string | undefined): boolean {
  if (left === right) return true;
  return fact === "mtime" && Math.abs(Number(BigInt(left ?? 0) - BigInt(right ?? 0))) < timeResolutionNs;
}

/** A difference that is meant, and why. */
export interface Explained {
  readonly why: string;
  readonly holds: (difference: Difference) => boolean;
}

/**
 * The differences that nobody explained, and the explanations that explain nothing: both must be empty, or the list says
 * something that is not so.
 */
export function unexplained(
  found: readonly Difference[],
  explanations: readonly Explained[],
): { readonly differences: readonly Difference[]; readonly idle: readonly string[] } {
  return {
    differences: found.filter((difference) => !explanations.some(({ holds }) => holds(difference))),
    idle: explanations.filter(({ holds }) => !found.some(holds)).map(({ why }) => why),
  };
}
