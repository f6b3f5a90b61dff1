import { exitCodeOf, ToolError, type ErrorCategory } from "../src/errors/index.ts";
import { paint, type Shell } from "./shell.ts";
import { printable, wrapped } from "./table.ts";

/** What `--json` prints instead of a result. */
export interface FailureDocument {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly hint?: string;
    readonly details?: Readonly<Record<string, unknown>>;
    readonly causes?: readonly string[];
  };
}

export interface Failure {
  readonly exitCode: number;
  readonly document: FailureDocument;
}

/** Node's own error codes that a user meets, by what they mean to them. */
const systemCodes: Readonly<Record<string, { readonly exitCode: number; readonly hint: string }>> = {
  ENOENT: { exitCode: exitCodeOf("io"), hint: "check the path" },
  EACCES: { exitCode: exitCodeOf("io"), hint: "check the permissions of the path" },
  EPERM: { exitCode: exitCodeOf("io"), hint: "check the permissions of the path" },
  EEXIST: { exitCode: exitCodeOf("io"), hint: "choose another path, or remove what is there" },
  EISDIR: { exitCode: exitCodeOf("io"), hint: "name a file, not a folder" },
  ENOTDIR: { exitCode: exitCodeOf("io"), hint: "a part of the path is not a folder" },
  ENOSPC: { exitCode: exitCodeOf("io"), hint: "free some disk space and run it again" },
  EMFILE: { exitCode: exitCodeOf("io"), hint: "raise the limit of open files (ulimit -n)" },
  EROFS: { exitCode: exitCodeOf("io"), hint: "the file system is read-only" },
  EPIPE: { exitCode: exitCodeOf("io"), hint: "whoever read the output has gone" },
  EADDRINUSE: { exitCode: exitCodeOf("io"), hint: "another program listens on that address; choose another port" },
  ECONNREFUSED: {
    exitCode: exitCodeOf("unavailable"),
    hint: "nothing listens at that address; check the host, the port and whether it runs",
  },
  ECONNRESET: { exitCode: exitCodeOf("unavailable"), hint: "the connection broke; run it again" },
  ENOTFOUND: { exitCode: exitCodeOf("unavailable"), hint: "that host name is not known; check its spelling and your DNS" },
  ETIMEDOUT: { exitCode: exitCodeOf("unavailable"), hint: "no answer in time; run it again" },
};

/** What to do next where an error knows nothing better; every failure has a hint. */
const nextStep: Readonly<Record<ErrorCategory, string>> = {
  internal: "this is a defect in ociseal; please report it with the command that you ran",
  usage: "see the command's --help",
  "not-found": "check the name for a typing error; ociseal inspect shows what is there",
  unavailable: "try again later",
  denied: "check the credentials, and what they permit",
  integrity: "do not use this content; fetch it again from its source, and tell its owner if it stays so",
  "no-key": "ociseal inspect shows who the recipients are; give a matching key with -k",
  attestation: "compare the evidence with the policy: ociseal attest verify",
  io: "check the path, its permissions and the free disk space",
  interrupted: "run it again to continue",
};

/** Says what was thrown as users see it. Stacks never reach them. */
export function describeFailure(thrown: unknown, interrupted: boolean): Failure {
  if (interrupted) {
    return failure(exitCodeOf("interrupted"), {
      code: "ERR_INTERRUPTED",
      message: "interrupted",
      hint: "nothing was left half-written; run it again to continue",
    });
  }
  if (thrown instanceof ToolError) {
    const causes = causesOf(thrown);
    return failure(exitCodeOf(thrown.category), {
      code: thrown.code,
      message: thrown.message,
      hint: thrown.hint ?? nextStep[thrown.category],
      ...(Object.keys(thrown.details).length === 0 ? {} : { details: thrown.details }),
      ...(causes.length === 0 ? {} : { causes }),
    });
  }
  const code = systemCodeOf(thrown);
  const system = code === undefined ? undefined : systemCodes[code];
  if (code !== undefined && system !== undefined) {
    return failure(system.exitCode, { code: `ERR_SYSTEM_${code}`, message: systemMessage(code, thrown), hint: system.hint });
  }
  return failure(exitCodeOf("internal"), {
    code: "ERR_INTERNAL",
    message: messageOf(thrown),
    hint: "this is a defect in ociseal; please report it with the command that you ran",
  });
}

/** Prints a failure: one JSON document on stdout with `--json`, else fact and advice on stderr. */
export function printFailure(shell: Pick<Shell, "stdout" | "stderr" | "env">, json: boolean, { document }: Failure): void {
  if (json) {
    shell.stdout.write(`${JSON.stringify(document)}\n`);
    return;
  }
  const { code, message, hint, causes = [] } = document.error;
  const width = shell.stderr.isTTY === true ? shell.stderr.columns : undefined;
  const say = (label: string, colour: string, text: string): void => {
    const lines = wrapped(`${label} ${text}`, width, "       ");
    shell.stderr.write(`${paint(shell, colour, label.trimEnd())}${lines.slice(label.trimEnd().length)}\n`);
  };
  say("error:", "31", `${message} [${code}]`);
  for (const cause of causes) shell.stderr.write(`${wrapped(`       ${cause}`, width, "       ")}\n`);
  if (hint !== undefined) say("hint: ", "36", hint);
}

function failure(exitCode: number, error: FailureDocument["error"]): Failure {
  return { exitCode, document: { error } };
}

const maxCauses = 20;

function causesOf(error: Error): readonly string[] {
  const seen: string[] = [];
  const visit = (cause: unknown): void => {
    if (cause === undefined || seen.length >= maxCauses) return;
    const message = messageOf(cause);
    if (message !== "" && !error.message.includes(message) && !seen.includes(message)) seen.push(message);
    if (cause instanceof AggregateError) for (const one of cause.errors) visit(one);
    else if (cause instanceof Error) visit(cause.cause);
  };
  visit(error.cause);
  return seen;
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** What Node's `ENOENT: no such file or directory, stat 'x'` means to a person. */
const pathProblems: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EACCES: "may not be opened",
  EPERM: "may not be changed",
  EISDIR: "is a folder",
  ENOTDIR: "is not below a folder",
};

function systemMessage(code: string, thrown: unknown): string {
  const problem = pathProblems[code];
  const path = thrown instanceof Error && "path" in thrown ? thrown.path : undefined;
  return problem === undefined || typeof path !== "string" || path === "" ? messageOf(thrown) : `${printable(path)} ${problem}`;
}

function systemCodeOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error)) return undefined;
  if ("code" in thrown && typeof thrown.code === "string") return thrown.code;
  return systemCodeOf(thrown.cause);
}
