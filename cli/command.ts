import type { Command } from "commander";
import type { SharedOptions, Shell } from "./shell.ts";

/** What a command's module exports; loaded only when the command runs. */
export type Action<Options> = (shell: Shell, args: readonly string[], options: Options) => Promise<void>;

/** Binds commands to the process; given by `main`. */
export interface Launcher {
  /** Makes a commander action of a lazily loaded one. */
  launch<Options>(load: () => Promise<Action<Options & SharedOptions>>): (...args: unknown[]) => Promise<void>;
}

/** Adds the flags that all commands share. Returns the same command. */
export function withShared(command: Command): Command {
  return command
    .option("--json", "print exactly one JSON document on stdout, also on failure")
    .option("--quiet", "print results and errors only")
    .option("--progress <mode>", "auto, bar, plain, json or none", "auto");
}

/** Adds the flags of commands that talk to registries. */
export function withRegistry(command: Command): Command {
  return command
    .option("--creds-file <file>", "registry credentials: a docker config.json or podman auth.json")
    .option("--tls-ca <file>", "trust these certificate authorities too (PEM)")
    .option("--tls-client-cert <file>", "client certificate (PEM)")
    .option("--tls-client-key <file>", "key of the client certificate (PEM)")
    .option("--plain-http <host>", "allow plain HTTP to this host (repeatable); loopback needs no flag", collectValues)
    .option("--allow-realm <pair>", "REGISTRY=HOST: this token service may get that registry's credentials (repeatable)", collectValues)
    .option("--concurrency <n>", "blobs in flight at once, and connections to each registry (8, never under 2)", parseCount)
    .option("--limit-rate <bytes>", "at most so many bytes per second, with K, M or G", parseSize);
}

/** Adds the flags of commands that talk to a Key Broker Service as a guest. */
export function withKbs(command: Command): Command {
  return command
    .option("--kbs <url>", "Key Broker Service (environment: OCISEAL_KBS_URL)")
    .option("--tee <kind>", "auto, tdx, snp or sample", "auto")
    .option("--tsm-path <dir>", "configfs-tsm report folder");
}

/** commander's parser for a repeatable option. */
export function collectValues(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}

const units: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Bytes, with K, M, G or T for powers of 1024; NaN for anything else, which `requireNumber` refuses. */
export function parseSize(text: string): number {
  const match = /^(\d{1,15})([KMGT]?)(?:iB|B)?$/i.exec(text);
  return match === null ? Number.NaN : Number(match[1]) * (units[(match[2] ?? "").toUpperCase()] ?? Number.NaN);
}

/** A whole number, sign allowed; NaN for anything else. */
export function parseCount(text: string): number {
  return /^-?\d{1,12}$/.test(text) ? Number(text) : Number.NaN;
}
