import { open, type FileHandle } from "node:fs/promises";
import { usage } from "./errors.ts";

/** What a run over a list remembers between runs. Must be closed. */
export interface ListState {
  doneBefore(words: readonly string[]): { readonly digest: string | undefined } | undefined;
  /** Returns once the line is on disk. */
  remember(words: readonly string[], digest: string | undefined): Promise<void>;
  close(): Promise<void>;
}

const maxStateBytes = 256 << 20;

/**
 * Opens a state file, or begins one. It is a JSON object per line: first whose state it is
 * (`{"ociseal":1,"command","settings"}`), then what is done (`{"done":["SOURCE","DESTINATION"],"digest"}`).
 *
 * One line is one write, flushed before the next image is begun, so that a list of any length costs the same per image;
 * a line that a crash cut short does not count, and its image is done again.
 *
 * Throws `ERR_USAGE` when the file is of another command or of other flags.
 */
export async function openListState(path: string, owner: { readonly command: string; readonly settings: string }): Promise<ListState> {
  const file = await open(path, "a+", 0o600);
  try {
    const { size } = await file.stat();
    if (size > maxStateBytes) throw usage(`state file ${path} has ${size} bytes, more than the limit of ${maxStateBytes}`);
    const text = (await file.readFile()).toString("utf8");
    const [first, ...rest] = text.split("\n");
    if (text === "") await append(file, { ociseal: 1, ...owner });
    else requireOwner(parseLine(first ?? ""), path, owner);
    // Ends a line that was cut, so that the next one does not run into it.
    if (text !== "" && !text.endsWith("\n")) await file.appendFile("\n");
    return listState(file, rest);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function listState(file: FileHandle, lines: readonly string[]): ListState {
  const done = new Map<string, string | undefined>();
  for (const line of lines) {
    const entry = parseLine(line);
    if (entry !== undefined && Array.isArray(entry["done"]))
      done.set(JSON.stringify(entry["done"]), typeof entry["digest"] === "string" ? entry["digest"] : undefined);
  }
  return {
    doneBefore(words) {
      const key = JSON.stringify(words);
      return done.has(key) ? { digest: done.get(key) } : undefined;
    },
    async remember(words, digest) {
      await append(file, { done: words, digest });
      done.set(JSON.stringify(words), digest);
    },
    close: () => file.close(),
  };
}

async function append(file: FileHandle, entry: object): Promise<void> {
  await file.appendFile(`${JSON.stringify(entry)}\n`);
  await file.datasync();
}

function requireOwner(
  entry: Readonly<Record<string, unknown>> | undefined,
  path: string,
  owner: { command: string; settings: string },
): void {
  if (entry?.["ociseal"] !== 1) throw usage(`${path} is not a state file of ociseal`, "name a file that does not exist yet");
  if (entry["command"] === owner.command && entry["settings"] === owner.settings) return;
  throw usage(
    `state file ${path} is of ociseal ${String(entry["command"])} with other flags, or other files behind them`,
    "name another file with --state, or remove this one to do everything again",
  );
}

function parseLine(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    return typeof entry === "object" && entry !== null && !Array.isArray(entry) ? { ...entry } : undefined;
  } catch {
    return undefined;
  }
}
