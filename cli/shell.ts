import type { Writable } from "node:stream";
import type { ErrorCategory } from "../src/errors/index.ts";

export type ProgressMode = "auto" | "bar" | "plain" | "json" | "none";

/** What every command accepts; the rest of its flags it declares itself. */
export interface SharedOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly progress?: ProgressMode;
}

/** The process as a command sees it: where results go, what the environment says, and when to stop. */
export interface Shell {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly progress: ProgressMode;
  /** Prints the one result: the JSON document with `--json`, else the text. */
  result(text: string, document: unknown): Promise<void>;
  /** The command did its work and its answer is no: ends with this category's exit code, the result printed. */
  exitWith(category: ErrorCategory): void;
  /** A line for the person at the terminal, on stderr; silent with `--quiet`. */
  note(line: string): void;
  /** A line that `--quiet` does not silence. */
  warn(line: string): void;
  /** Where lines go while something is drawn below them on the terminal; `undefined` when it no longer is. */
  linesAbove(write: ((text: string) => void) | undefined): void;
}

export function makeShell(base: Pick<Shell, "stdin" | "stdout" | "stderr" | "env" | "signal" | "exitWith">, options: SharedOptions): Shell {
  const json = options.json === true;
  const quiet = options.quiet === true;
  let above: ((text: string) => void) | undefined;
  const line = (text: string): void => {
    if (above === undefined) base.stderr.write(`${text}\n`);
    else above(`${text}\n`);
  };
  return {
    // Node.js opens a stream when it is asked for one, which takes longer than some commands.
    get stdin() {
      return base.stdin;
    },
    get stderr() {
      return base.stderr;
    },
    stdout: base.stdout,
    env: base.env,
    signal: base.signal,
    exitWith: base.exitWith,
    json,
    quiet,
    progress: options.progress ?? "auto",
    result: (text, document) => write(base.stdout, json ? `${JSON.stringify(document)}\n` : text === "" ? "" : `${text}\n`),
    note: (text) => {
      if (!quiet) line(text);
    },
    warn: (text) => line(`${paint(base, "33", "warning:")} ${text}`),
    linesAbove: (write) => {
      above = write;
    },
  };
}

/** Waits until the text is out, so that a closed pipe is an error and not a cut document. */
function write(stream: Writable, text: string): Promise<void> {
  if (text === "") return Promise.resolve();
  return new Promise((resolve, reject) => stream.write(text, (error) => (error ? reject(error) : resolve())));
}

/** Wraps text in a colour where the reader is a terminal. Source: no-color.org. */
export function paint(shell: Pick<Shell, "stderr" | "env">, code: string, text: string): string {
  const coloured = shell.stderr.isTTY === true && (shell.env["NO_COLOR"] ?? "") === "" && shell.env["TERM"] !== "dumb";
  return coloured ? `\u001b[${code}m${text}\u001b[0m` : text;
}
