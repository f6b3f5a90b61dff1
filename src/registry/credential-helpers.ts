import { spawn } from "node:child_process";
import { parseJson } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import type { Credential } from "./credentials.ts";
import { RegistryError } from "./errors.ts";
import { redactText } from "./redact.ts";

/** Bounds on a helper: bytes of its output, and milliseconds that it may take (it may ask the user to unlock a key ring). */
export const helperLimits = { outputBytes: 64 * 1024, timeoutMs: 60_000 } as const;

/** What `credHelpers` and `credsStore` name: `docker-credential-<suffix>`, found in PATH, never a path of its own. */
const suffixGrammar = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

type HelperAction = "get" | "store" | "erase";

/**
 * Asks a helper for the credentials of a server; `undefined` when it has none. Throws `ERR_CREDENTIAL_HELPER_FAILED`.
 * Source: docker-credential-helpers, protocol: the server's key on stdin, JSON on stdout, messages of failures on stdout.
 */
export async function askHelper(suffix: string, serverKey: string): Promise<Credential | undefined> {
  const { status, output } = await runHelper(suffix, "get", serverKey);
  if (status !== 0) {
    if (/credentials not found in native keychain|no credentials|not found/i.test(output)) return undefined;
    throw failed(suffix, `ended with status ${status} (${redactText(output, 160)})`);
  }
  let answer: unknown;
  try {
    answer = parseJson(output, { maxBytes: helperLimits.outputBytes, subject: "answer" });
  } catch {
    // The text may hold the secret, so the parser's reason is not passed on.
    throw failed(suffix, "printed something that is not JSON");
  }
  const { Username: username, Secret: secret } = (typeof answer === "object" && answer !== null ? answer : {}) as Readonly<
    Record<string, unknown>
  >;
  if (typeof username !== "string" || typeof secret !== "string") throw failed(suffix, "printed JSON without Username and Secret");
  if (username === "" && secret === "") return undefined;
  return username === "<token>" ? { kind: "identity-token", token: secret } : { kind: "basic", username, password: secret };
}

/** Gives a credential to a helper to keep. Throws `ERR_CREDENTIAL_HELPER_FAILED`. */
export async function storeInHelper(
  suffix: string,
  serverKey: string,
  credential: { readonly username: string; readonly secret: string },
): Promise<void> {
  const input = JSON.stringify({ ServerURL: serverKey, Username: credential.username, Secret: credential.secret });
  const { status, output } = await runHelper(suffix, "store", input);
  if (status !== 0) throw failed(suffix, `ended with status ${status} (${redactText(output, 160)})`);
}

/** Makes a helper forget a server; `absent` when it did not know it. Throws `ERR_CREDENTIAL_HELPER_FAILED`. */
export async function eraseFromHelper(suffix: string, serverKey: string): Promise<"removed" | "absent"> {
  const { status, output } = await runHelper(suffix, "erase", serverKey);
  if (status === 0) return "removed";
  if (/not found/i.test(output)) return "absent";
  throw failed(suffix, `ended with status ${status} (${redactText(output, 160)})`);
}

function runHelper(suffix: string, action: HelperAction, input: string): Promise<{ readonly status: number; readonly output: string }> {
  if (!suffixGrammar.test(suffix)) {
    throw new RegistryError("ERR_CREDENTIALS_MALFORMED", {
      message: `${JSON.stringify(suffix.slice(0, 80))} is not the name of a credential helper`,
      hint: "credHelpers and credsStore hold what follows docker-credential- in the program's name",
    });
  }
  return new Promise((resolve, reject) => {
    const child = spawn(`docker-credential-${suffix}`, [action], { stdio: ["pipe", "pipe", "ignore"] });
    const giveUp = (error: RegistryError) => {
      clearTimeout(timer);
      // A process that the helper started may hold the pipe open; it is not waited for.
      child.kill("SIGKILL");
      child.stdin.destroy();
      child.stdout.destroy();
      reject(error);
    };
    const timer = setTimeout(() => giveUp(failed(suffix, `took longer than ${helperLimits.timeoutMs} ms`)), helperLimits.timeoutMs);
    const chunks: Buffer[] = [];
    let size = 0;
    child.on("error", (cause: NodeJS.ErrnoException) => giveUp(notRunnable(suffix, cause)));
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > helperLimits.outputBytes) giveUp(failed(suffix, `printed more than ${helperLimits.outputBytes} bytes`));
      else chunks.push(chunk);
    });
    // A helper may end without reading its input.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      if (signal !== null) reject(failed(suffix, `was killed (${signal})`));
      else resolve({ status: status ?? 1, output: Buffer.concat(chunks).toString("utf8") });
    });
  });
}

function notRunnable(suffix: string, cause: NodeJS.ErrnoException): RegistryError {
  const missing = cause.code === "ENOENT";
  return new RegistryError("ERR_CREDENTIAL_HELPER_FAILED", {
    message: `docker-credential-${suffix} ${missing ? "is not installed" : `cannot be run (${describeCause(cause)})`}`,
    hint: missing ? "install it, or remove it from credHelpers or credsStore of the credentials file" : undefined,
    cause,
  });
}

function failed(suffix: string, what: string): RegistryError {
  return new RegistryError("ERR_CREDENTIAL_HELPER_FAILED", {
    message: `docker-credential-${suffix} ${what}`,
    hint: `run "docker-credential-${suffix} list" by hand to see what is wrong`,
  });
}
