import { CommanderError, type Command } from "commander";
import { exitCodeOf, type ErrorCategory } from "../src/errors/index.ts";
import type { Action, Launcher } from "./command.ts";
import { describeFailure, printFailure } from "./failure.ts";
import { keepMemoryPrivate } from "./private-memory.ts";
import { makeProgram } from "./program.ts";
import { makeShell, type SharedOptions } from "./shell.ts";
import { skopeoHint } from "./skopeo-flags.ts";

const progressModes: ReadonlySet<string> = new Set(["auto", "bar", "plain", "json", "none"]);

/** A reader that has seen enough (`| head`) ends the output, not the work nor its exit code. */
function mayClose<Output extends NodeJS.WriteStream>(output: Output): Output {
  if (!output.listeners("error").includes(ignoreClosed)) output.on("error", ignoreClosed);
  return output;
}

function ignoreClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}

/** Runs one command line and sets the exit code; the only place that does. */
export async function run(argv: readonly string[]): Promise<void> {
  keepMemoryPrivate();
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Error("interrupted"));
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  const exitWith = (category: ErrorCategory): void => {
    process.exitCode = exitCodeOf(category);
  };
  const base = {
    get stdin() {
      return process.stdin;
    },
    stdout: mayClose(process.stdout),
    get stderr() {
      return mayClose(process.stderr);
    },
    env: process.env,
    signal: interruption.signal,
    exitWith,
  };

  const launcher: Launcher = {
    launch<Options>(load: () => Promise<Action<Options & SharedOptions>>) {
      return async (...parameters: unknown[]) => {
        // commander passes the arguments, the options, and the command itself.
        const options = parameters.at(-2) as Options & SharedOptions;
        const args = parameters
          .slice(0, -2)
          .flat()
          .filter((value): value is string => typeof value === "string");
        if (options.progress !== undefined && !progressModes.has(options.progress)) {
          throw new CommanderError(
            1,
            "ociseal.progress",
            `error: --progress takes auto, bar, plain, json or none, not ${options.progress}`,
          );
        }
        const action = await load();
        await action(makeShell(base, options), args, options);
      };
    },
  };

  const json = argv.includes("--json");
  const program = makeProgram(launcher, { json, width: process.stdout.columns, command: argv[0] });
  try {
    await program.parseAsync([...argv], { from: "user" });
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      process.exitCode = finishParse(thrown, json, base, commandOf(program, argv));
      return;
    }
    const failure = describeFailure(thrown, interruption.signal.aborted);
    printFailure(base, json, failure);
    process.exitCode = failure.exitCode;
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
  }
}

/** The command that a command line names, as far as it names one. */
function commandOf(program: Command, argv: readonly string[]): Command {
  const [word, ...rest] = argv;
  const child = program.commands.find((command) => command.name() === word);
  return child === undefined ? program : commandOf(child, rest);
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

/** Help and version end with 0; everything else that the parser refuses is a usage error. */
function finishParse(error: CommanderError, json: boolean, base: Parameters<typeof printFailure>[0], command: Command): number {
  if (error.exitCode === 0) return 0;
  // A group without a command: what there is to choose from is the answer.
  const isGroup = error.code === "commander.help";
  if (isGroup && !json) {
    base.stderr.write(command.helpInformation());
    return 2;
  }
  const [first = "", ...rest] = isGroup ? ["no command was given"] : error.message.replace(/^error: /, "").split("\n");
  const suggestion = rest
    .map((line) => line.trim().replace(/^\((.*)\)$/, "$1"))
    .join(" ")
    .trim();
  const unknown = /^unknown option '(.*)'$/.exec(first)?.[1];
  const elsewhere = unknown === undefined ? undefined : skopeoHint(unknown);
  const hint = elsewhere ?? (suggestion === "" ? `see ${nameOf(command)} --help` : suggestion);
  printFailure(base, json, { exitCode: 2, document: { error: { code: "ERR_USAGE", message: first, hint } } });
  return 2;
}
