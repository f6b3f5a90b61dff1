import { Command } from "commander";
import type { Launcher } from "./command.ts";
import { registerAttest } from "./commands/attest.ts";
import { registerCompletion } from "./commands/completion.ts";
import { registerDoctor } from "./commands/doctor.ts";
import { registerGuest } from "./commands/guest.ts";
import { registerImage } from "./commands/image.ts";
import { registerKbs } from "./commands/kbs.ts";
import { registerKey } from "./commands/key.ts";
import { registerKeyprovider } from "./commands/keyprovider.ts";
import { registerLogin } from "./commands/login.ts";
import { registerRegistry } from "./commands/registry.ts";
import { registerSigning } from "./commands/signing.ts";
import { readVersion } from "./version.ts";

export interface ProgramSettings {
  readonly json: boolean;
  readonly width: number | undefined;
  /** The first word of a command line: where it names a command, the others are left out, which takes a third of the time. */
  readonly command?: string | undefined;
}

/** Who declares which commands; help, completion and anything unknown need them all. */
const groups: readonly { readonly names: readonly string[]; readonly register: (program: Command, launcher: Launcher) => void }[] = [
  { names: ["encrypt", "decrypt", "copy", "inspect", "rewrap", "lint", "cat"], register: registerImage },
  { names: ["sign", "verify", "policy"], register: registerSigning },
  { names: ["pull", "unpack"], register: registerGuest },
  { names: ["kbs"], register: registerKbs },
  { names: ["attest"], register: registerAttest },
  { names: ["key"], register: registerKey },
  { names: ["login", "logout"], register: registerLogin },
  { names: ["registry"], register: registerRegistry },
  { names: ["doctor"], register: registerDoctor },
  { names: ["keyprovider", "ctd-decoder", "doctor"], register: registerKeyprovider },
  { names: [], register: registerCompletion },
];

const firstSteps = `
Examples:
  ociseal doctor
  ociseal key generate ec --out team
  ociseal encrypt docker.io/library/alpine:3 localhost:5000/alpine:sealed -r jwe:team.pub
  ociseal inspect localhost:5000/alpine:sealed
  ociseal decrypt localhost:5000/alpine:sealed oci:alpine -k team.key

ociseal COMMAND --help says more about each command.`;

/** A list of commands has their names alone: with arguments there is no room beside them for what they do. */
const names = { subcommandTerm: (command: Command): string => command.name() };

/** The whole command line as a tree; help, completion, man pages and the reference are made from it. */
export function makeProgram(launcher: Launcher, settings: ProgramSettings): Command {
  const program = new Command("ociseal")
    .description(
      "Seals container images: encrypts their layers, keeps the keys at a Key Broker Service, signs the result, and unlocks it only inside a guest that has proved what it runs.",
    )
    .version(readVersion(), "-V, --version", "print the version")
    .helpCommand(true)
    .showSuggestionAfterError(true)
    // A flag belongs to the command that it follows: `doctor containerd --kbs` is not doctor's own --kbs.
    .enablePositionalOptions()
    .configureHelp({ helpWidth: Math.min(settings.width || 100, 120), sortSubcommands: false, ...names });
  const named = groups.filter(({ names }) => names.includes(settings.command ?? ""));
  for (const { register } of named.length > 0 ? named : groups) register(program, launcher);
  if (named.length === 0) program.addHelpText("after", firstSteps);
  configure(program);
  return program;
}

/** Every command throws instead of ending the process, and leaves printing errors to `main`. */
function configure(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => undefined });
  for (const child of command.commands) configure(child);
}
