import { spawn } from "node:child_process";
import { describeCause } from "../../errors/index.ts";
import { maxMessage, providerFailed } from "./protocol.ts";

export interface ExecCall {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  readonly request: Uint8Array;
  /** The whole environment of the program; the process's own unless told. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What of a failed program's own words goes into our message. */
const maxWords = 2000;

/**
 * Runs a provider program: request on stdin, reply on stdout, exit status 0. No shell is involved. Throws
 * `ERR_KEYWRAP_PROVIDER_FAILED`, or the signal's reason.
 */
export async function callProgram(call: ExecCall): Promise<Buffer> {
  const { name, path, args, request, env, timeoutMs, signal } = call;
  signal?.throwIfAborted();
  const child = spawn(path, args, {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
    ...(env === undefined ? {} : { env: { ...env } }),
    ...(signal === undefined ? {} : { signal }),
  });
  const reply: Buffer[] = [];
  const words: Buffer[] = [];
  let size = 0;
  let wordsSize = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= maxMessage * 4) reply.push(chunk);
    else child.kill("SIGKILL");
  });
  child.stderr.on("data", (chunk: Buffer) => {
    if (wordsSize < maxWords) words.push(chunk);
    wordsSize += chunk.length;
  });
  // A program that ends without reading its request closes the pipe; its exit status tells more than the EPIPE.
  child.stdin.on("error", () => undefined);
  child.stdin.end(request);
  const [status, killed] = await new Promise<readonly [number | null, string | null]>((resolve, reject) => {
    child.once("error", (cause) =>
      reject(signal?.aborted === true ? signal.reason : providerFailed(name, `could not be run: ${describeCause(cause)}`, cause)),
    );
    child.once("close", (code, signalName) => resolve([code, signalName]));
  });
  if (size > maxMessage * 4) throw providerFailed(name, `answered with more than ${maxMessage * 4} bytes`);
  if (status === 0) return Buffer.concat(reply);
  const said = Buffer.concat(words).toString("utf8").slice(0, maxWords).trim();
  const end = killed === null ? `ended with status ${status}` : `was ended by ${killed} (timeout ${timeoutMs} ms)`;
  throw providerFailed(name, `${end}${said === "" ? "" : `: ${said}`}`);
}
