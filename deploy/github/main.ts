/** The action: seals one image with the identity of the job. action.yml says what the inputs mean. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { bringProgram, run, type Program } from "./program.ts";
import { ActionError, addSummary, fail, folded, identityToken, input, inputLines, inputSwitch, saveState, setOutput } from "./runner.ts";
import { summaryOf, type SealReport } from "./summary.ts";

const workspace = process.env["GITHUB_WORKSPACE"] ?? process.cwd();

try {
  await seal();
} catch (error) {
  fail(error);
}

async function seal(): Promise<void> {
  const keyless = inputSwitch("keyless");
  const [source, destination] = [required("source"), required("destination")];
  const recipients = inputLines("recipients");
  if (recipients.length === 0) throw missing("recipients");
  const work = mkdtempSync(join(process.env["RUNNER_TEMP"] ?? tmpdir(), "ociseal-"));
  // Whatever becomes of this process, the step after the job removes the folder.
  saveState("work", work);
  try {
    const program = await folded("Install ociseal", () =>
      bringProgram({ folder: join(work, "program"), version: input("version"), keyless }),
    );
    const shared = [...optional("--tls-ca", "tls-ca")];
    const flags = [
      ...recipients.flatMap((recipient) => ["-r", recipient]),
      ...optional("--profile", "profile"),
      ...optional("--sign-key", "sign-key"),
      ...(await brokerFlags(work)),
      ...inputLines("flags"),
    ];
    const report = await ociseal<SealReport>("Seal", program, ["encrypt", ...shared, ...flags, "--", source, destination]);
    if (keyless === "on") {
      const signing = [...shared, ...optional("--signing-config", "signing-config")];
      await ociseal("Sign", program, ["sign", ...signing, "--", pinned(destination, report.result.digest)], {
        ACTIONS_ID_TOKEN_REQUEST_URL: process.env["ACTIONS_ID_TOKEN_REQUEST_URL"],
        ACTIONS_ID_TOKEN_REQUEST_TOKEN: process.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"],
      });
    }
    setOutput("digest", report.result.digest);
    setOutput("image", pinned(destination, report.result.digest));
    addSummary(summaryOf(destination, report, keyless));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function missing(name: string): ActionError {
  return new ActionError("ERR_ACTION_INPUT", `the input ${name} is missing`, `give it with: ${name}`);
}

function required(name: string): string {
  const value = input(name);
  if (value === "") throw missing(name);
  return value;
}

function optional(flag: string, name: string): readonly string[] {
  const value = input(name);
  return value === "" ? [] : [flag, value];
}

/** The job proves itself to the Key Broker Service with its identity token, which is kept in a file that only it can read. */
async function brokerFlags(work: string): Promise<readonly string[]> {
  const kbs = input("kbs");
  if (kbs === "") return [];
  const file = join(work, "kbs-token");
  writeFileSync(file, await identityToken(input("kbs-audience")), { mode: 0o600 });
  return ["--kbs", kbs, "--kbs-admin-token", file];
}

/** The sealed image by its digest where it has a name in a registry: the tag may move meanwhile. */
function pinned(destination: string, digest: string): string {
  return /^(oci|oci-archive|dir):/.test(destination) ? destination : `${destination}@${digest}`;
}

/** Runs a command of the program. Throws its own message and hint as `ActionError`. */
async function ociseal<Report>(
  title: string,
  program: Program,
  [command = "", ...args]: readonly string[],
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<Report> {
  const words = [...program.args, command, "--json", "--progress", "plain", ...args];
  const { status, stdout } = await folded(title, () => run(program.command, words, workspace, "kept", env));
  const answer = parsed(stdout);
  if (status === 0 && answer !== undefined) return answer as Report;
  const { code = "ociseal", message = `it ended with ${status}`, hint = "see the log of this step" } = answer?.error ?? {};
  throw new ActionError(code, message, hint);
}

interface Answer {
  readonly error?: { readonly code?: string; readonly message?: string; readonly hint?: string };
}

function parsed(text: string): Answer | undefined {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    return undefined;
  }
}
