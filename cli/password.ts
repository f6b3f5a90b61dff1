import { readFile } from "node:fs/promises";
import { readSync } from "node:fs";
import { usage } from "./errors.ts";
import type { Shell } from "./shell.ts";

const maxPasswordBytes = 4096;

/**
 * Asks on the terminal, without echo. Where there is no terminal that is an error, never an empty password.
 * `COSIGN_PASSWORD` is looked at first for cosign keys, as cosign does.
 */
export async function askPassword(shell: Shell, prompt: string): Promise<string> {
  if (!shell.stdin.isTTY) {
    throw usage(
      `a password is needed for ${prompt}, and there is no terminal to ask on`,
      "give it with :file=, :fd= or :env=, or COSIGN_PASSWORD for cosign keys",
    );
  }
  shell.stderr.write(`password for ${prompt}: `);
  shell.stdin.setRawMode(true);
  try {
    return await readHidden(shell);
  } finally {
    shell.stdin.setRawMode(false);
    shell.stderr.write("\n");
  }
}

function readHidden(shell: Shell): Promise<string> {
  const typed: number[] = [];
  return new Promise<string>((resolve, reject) => {
    const finish = (end: () => void): void => {
      shell.stdin.off("data", read);
      shell.stdin.pause();
      end();
    };
    const read = (chunk: Buffer): void => {
      for (const byte of chunk) {
        if (byte === 0x03 || byte === 0x04) return finish(() => reject(usage("no password was given")));
        if (byte === 0x0d || byte === 0x0a) return finish(() => resolve(Buffer.from(typed).toString("utf8")));
        if (byte === 0x7f || byte === 0x08) typed.pop();
        else if (typed.length < maxPasswordBytes) typed.push(byte);
      }
    };
    shell.stdin.on("data", read);
    shell.stdin.resume();
  });
}

/** The password of a cosign key: `COSIGN_PASSWORD`, which may be empty, else the terminal. */
export function cosignPassword(shell: Shell, prompt: string): () => Promise<string> {
  return async () => shell.env["COSIGN_PASSWORD"] ?? (await askPassword(shell, prompt));
}

/** Reads a password by `pass=…`, `file=…`, `fd=N` or `env=NAME`, without a trailing line end. */
export async function readPassword(shell: Shell, source: string): Promise<Buffer> {
  const [kind = "", ...rest] = source.split("=");
  const value = rest.join("=");
  switch (kind) {
    case "pass":
      return Buffer.from(value);
    case "file":
      return withoutLineEnd(await readFile(value));
    case "fd":
      return withoutLineEnd(readDescriptor(Number(value)));
    case "env": {
      const text = shell.env[value];
      if (text === undefined) throw usage(`the environment has no ${value}`, "set it, or give the password another way");
      return withoutLineEnd(Buffer.from(text));
    }
    default:
      throw usage("a password is given as pass=…, file=…, fd=N or env=NAME");
  }
}

function readDescriptor(fd: number): Buffer {
  if (!Number.isSafeInteger(fd) || fd < 0) throw usage("fd= takes the number of an open file descriptor");
  const buffer = Buffer.alloc(maxPasswordBytes);
  let length = 0;
  for (;;) {
    const got = readSync(fd, buffer, length, buffer.length - length, null);
    if (got === 0 || length + got === buffer.length) return buffer.subarray(0, length + got);
    length += got;
  }
}

function withoutLineEnd(bytes: Buffer): Buffer {
  const text = bytes.toString("latin1").replace(/\r?\n$/, "");
  return bytes.subarray(0, text.length);
}
