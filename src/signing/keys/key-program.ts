import { spawn } from "node:child_process";
import { collect } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import type { CallOptions } from "../../store/index.ts";
import { keyServiceError } from "./checked-signer.ts";

export interface ProgramCall extends CallOptions {
  /** A path, or a name to be found on PATH. */
  readonly program: string;
  readonly args: readonly string[];
  /** The whole environment of the program. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly input: Uint8Array;
  readonly subject: string;
}

export interface ProgramResult {
  readonly code: number;
  readonly stdout: Buffer;
  /** The last words of its diagnostics. */
  readonly stderr: string;
}

const limits = { timeoutMs: 60_000, maxBytes: 1024 * 1024 } as const;

/** Runs a program that holds a key, without a shell. Throws `ERR_KEY_SERVICE` when it cannot be run. */
export async function runKeyProgram({ program, args, env, input, subject, signal }: ProgramCall): Promise<ProgramResult> {
  const timeout = AbortSignal.timeout(limits.timeoutMs);
  try {
    const child = spawn(program, args, {
      env: { ...env },
      stdio: ["pipe", "pipe", "pipe"],
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    const ended = new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve(code ?? -1));
    });
    // A program that does not read its input closes it: that is its right.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const [stdout, stderr, code] = await Promise.all([
      collect(child.stdout, { maxBytes: limits.maxBytes, subject }),
      collect(child.stderr, { maxBytes: limits.maxBytes, subject }),
      ended,
    ]);
    return { code, stdout, stderr: stderr.toString("utf8").trim().split("\n").slice(-3).join(" ").slice(0, 400) };
  } catch (cause) {
    signal?.throwIfAborted();
    throw keyServiceError(
      `${subject}: the program ${program} cannot be run: ${describeCause(cause)}`,
      `install ${program}, or put it on PATH`,
      cause,
    );
  }
}
