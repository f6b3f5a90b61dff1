import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { categories, type ErrorCategory } from "../src/errors/index.ts";
import type { Action } from "./command.ts";
import { usage } from "./errors.ts";
import { describeFailure, type FailureDocument } from "./failure.ts";
import { readSmallFile } from "./files.ts";
import { openListState, type ListState } from "./list-state.ts";
import { logGroup } from "./log-group.ts";
import type { Shell } from "./shell.ts";
import { counted, printable } from "./table.ts";

/** Flags of commands that also work through a list. */
export interface FromFileOptions {
  readonly fromFile?: string;
  readonly shard?: string;
  readonly state?: string;
  readonly dryRun?: boolean;
}

/** What a line of the list holds. */
export interface LineShape {
  readonly command: string;
  /** `SOURCE`, `DESTINATION`: also the command's own arguments. */
  readonly names: readonly string[];
  readonly required: number;
  /** Whether a line that is done stays done; always unless told. What a tag names may be another image the next time. */
  readonly staysDone?: (words: readonly string[]) => boolean;
}

/** What became of one line. */
export interface ItemReport {
  /** From 1, as editors count. */
  readonly line: number;
  readonly arguments: readonly string[];
  readonly outcome: "done" | "done-before" | "failed";
  readonly digest?: string;
  readonly error?: FailureDocument["error"];
}

const maxListBytes = 64 << 20;

/** The worst first: what a person must look at before they repeat the run stands above what a repetition may cure. */
const severity: readonly ErrorCategory[] = [
  "internal",
  "integrity",
  "attestation",
  "denied",
  "no-key",
  "usage",
  "not-found",
  "io",
  "unavailable",
];

/**
 * Lets an action on one image work through `--from-file` too: the lines of this shard in order, each on its own; a line
 * that fails does not keep the others from being done. With `--state`, what is done is remembered and skipped the next
 * time. Ends with the exit code of the worst failure.
 *
 * `ERR_USAGE` ends the run at once: the flags are the same for every line.
 */
export function overList<Options extends FromFileOptions>(action: Action<Options>, shape: LineShape): Action<Options> {
  return async (shell, args, options) => {
    if (options.fromFile === undefined) {
      if (options.shard !== undefined || options.state !== undefined) throw usage("--shard and --state go with --from-file");
      const missing = shape.names.slice(args.length, shape.required);
      if (missing.length > 0) throw usage(`missing ${missing.join(" and ")}`, `see ociseal ${shape.command} --help`);
      await action(shell, args, options);
      return;
    }
    if (args.length > 0) throw usage("--from-file does not go with images on the command line");
    const shard = parseShard(options.shard ?? "0/1");
    const text = (await readSmallFile(options.fromFile, "list", maxListBytes)).toString("utf8");
    const items = parseList(text, options.fromFile, shape).filter((_, index) => index % shard.of === shard.index);
    const remembers = options.state !== undefined && options.dryRun !== true;
    const state = remembers
      ? await openListState(options.state, { command: shape.command, settings: await fingerprint(options) })
      : undefined;
    try {
      await report(
        shell,
        await workThrough({ shell, items, state, work: (one, words) => action(one, words, options), staysDone: shape.staysDone }),
      );
    } finally {
      await state?.close();
    }
  };
}

interface Item {
  readonly line: number;
  readonly words: readonly string[];
}

/** Reads a list: words apart by blanks, a line each; empty lines and lines that begin with # do not count. Throws `ERR_USAGE`. */
export function parseList(text: string, name: string, { names, required }: LineShape): readonly Item[] {
  const items: Item[] = [];
  for (const [index, content] of text.split(/\r?\n/).entries()) {
    const words = content.split(/[ \t]+/).filter((word) => word !== "");
    if (words.length === 0 || words[0]?.startsWith("#") === true) continue;
    if (words.length < required || words.length > names.length)
      throw usage(
        `line ${index + 1} of ${name} has ${counted(words.length, "word")}`,
        `a line is ${names.map((part, i) => (i < required ? part : `[${part}]`)).join(" ")}`,
      );
    items.push({ line: index + 1, words });
  }
  return items;
}

/** Parses `I/N`, I from 0 to N-1. Throws `ERR_USAGE`. */
export function parseShard(text: string): { readonly index: number; readonly of: number } {
  const match = /^(\d{1,6})\/(\d{1,6})$/.exec(text);
  const [index, of] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || of < 1 || index >= of)
    throw usage(`--shard takes I/N with I from 0 to N-1, not ${text}`, "for example --shard 0/8 … --shard 7/8");
  return { index, of };
}

interface Run {
  readonly shell: Shell;
  readonly items: readonly Item[];
  readonly state: ListState | undefined;
  readonly work: (shell: Shell, words: readonly string[]) => Promise<void>;
  readonly staysDone: LineShape["staysDone"];
}

interface Outcome {
  readonly items: readonly ItemReport[];
  readonly worst: ErrorCategory | undefined;
}

async function workThrough({ shell, items, state, work, staysDone = () => true }: Run): Promise<Outcome> {
  const reports: ItemReport[] = [];
  const failures = new Set<ErrorCategory>();
  const group = logGroup(shell);
  for (const [index, { line, words }] of items.entries()) {
    shell.signal.throwIfAborted();
    const say = (what: string): void => shell.note(printable(`[${index + 1}/${items.length}] ${what}: ${words.join(" ")}`));
    const before = staysDone(words) ? state?.doneBefore(words) : undefined;
    if (before !== undefined) {
      reports.push({ line, arguments: words, outcome: "done-before", ...digestMember(before.digest) });
      say("done before");
      continue;
    }
    const one = captured(shell);
    group.open(printable(`[${index + 1}/${items.length}] ${words.join(" ")}`));
    const failure = await attempt(shell, async () => work(one.shell, words)).finally(() => group.close());
    if (failure === undefined && one.refused() === undefined) {
      await state?.remember(words, one.digest());
      reports.push({ line, arguments: words, outcome: "done", ...digestMember(one.digest()) });
      say("done");
      continue;
    }
    failures.add(failure?.category ?? one.refused() ?? "internal");
    reports.push({ line, arguments: words, outcome: "failed", ...(failure === undefined ? {} : { error: failure.error }) });
    say(failure === undefined ? "failed" : `${failure.error.message} [${failure.error.code}]`);
  }
  return { items: reports, worst: severity.find((category) => failures.has(category)) };
}

async function report(shell: Shell, { items, worst }: Outcome): Promise<void> {
  const count = (outcome: ItemReport["outcome"]): number => items.filter((item) => item.outcome === outcome).length;
  const summary = { total: items.length, done: count("done"), doneBefore: count("done-before"), failed: count("failed") };
  const lines = items
    .filter(({ outcome }) => outcome === "failed")
    .map(({ line, arguments: words, error }) =>
      printable(`failed  line ${line}: ${words.join(" ")}${error === undefined ? "" : `: ${error.message} [${error.code}]`}`).concat(
        error?.hint === undefined ? "" : `\n        hint: ${printable(error.hint)}`,
      ),
    );
  const text = `${counted(summary.total, "image")}: ${summary.done} done, ${summary.doneBefore} done before, ${summary.failed} failed`;
  await shell.result([...lines, text].join("\n"), { summary, items });
  if (worst !== undefined) shell.exitWith(worst);
}

interface LineFailure {
  readonly error: FailureDocument["error"];
  readonly category: ErrorCategory;
}

/** Rethrows what ends the whole run: an interruption, and flags that are wrong for every line. */
async function attempt(shell: Shell, work: () => Promise<void>): Promise<LineFailure | undefined> {
  try {
    await work();
    return undefined;
  } catch (thrown) {
    if (shell.signal.aborted) throw thrown;
    const { exitCode, document } = describeFailure(thrown, false);
    if (document.error.code === "ERR_USAGE") throw thrown;
    const category = severity.find((name) => categories[name] === exitCode) ?? "internal";
    return { error: document.error, category };
  }
}

/** A shell that keeps the result of one line to itself. */
function captured(shell: Shell): {
  readonly shell: Shell;
  digest(): string | undefined;
  refused(): ErrorCategory | undefined;
} {
  let digest: string | undefined;
  let refused: ErrorCategory | undefined;
  return {
    shell: {
      ...shell,
      result: async (_text, document) => {
        digest = digestOf(document);
      },
      exitWith: (category) => {
        refused = category;
      },
    },
    digest: () => digest,
    refused: () => refused,
  };
}

/** Where a command's document names what it made or looked at. */
function digestOf(document: unknown): string | undefined {
  if (typeof document !== "object" || document === null) return undefined;
  const named = "result" in document ? document.result : "target" in document ? document.target : undefined;
  if (typeof named !== "object" || named === null || !("digest" in named)) return undefined;
  return typeof named.digest === "string" ? named.digest : undefined;
}

function digestMember(digest: string | undefined): { readonly digest?: string } {
  return digest === undefined ? {} : { digest };
}

/** Flags that do not change what becomes of an image. */
const incidental: ReadonlySet<string> = new Set([
  "fromFile",
  "shard",
  "state",
  "json",
  "quiet",
  "progress",
  "concurrency",
  "limitRate",
  "credsFile",
  "kbsAdminToken",
]);

/**
 * Tells runs with other flags apart: what was done for one recipient, or verified with one key, is not done for another.
 * Files that flags name count with their content, so that another key under the same name is another run.
 */
async function fingerprint(options: object): Promise<string> {
  const members = Object.entries(options)
    .filter(([name, value]) => !incidental.has(name) && value !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const texts = members.flatMap(([, value]: [string, unknown]) => (Array.isArray(value) ? value : [value]));
  const contents = await Promise.all(texts.filter((text) => typeof text === "string").map(contentDigest));
  return createHash("sha256")
    .update(JSON.stringify([members, contents]))
    .digest("hex");
}

/** Digest of the file that a value names, as `FILE`, `jwe:FILE` or `FILE:pass=…`; `undefined` where it names none. */
async function contentDigest(text: string): Promise<string | undefined> {
  const path = text.replace(/^(?:jwe|pkcs7|pgp|pkcs11):/, "").replace(/(?:;|:(?:pass|file|fd|env)=).*$/, "");
  try {
    // A pipe can be read once, and is the command's.
    if (!(await stat(path)).isFile()) return undefined;
    return createHash("sha256")
      .update(await readSmallFile(path, "file"))
      .digest("hex");
  } catch {
    // Names a key at a service, a number, a word: no file. Whether it should be one is for the command to say.
    return undefined;
  }
}
