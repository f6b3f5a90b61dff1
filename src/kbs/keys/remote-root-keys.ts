import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { decodeBase64, encodeBase64, withoutOaepRemark } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { memberAt } from "../protocol/shape.ts";
import { isAway, type JsonAnswer } from "../stores/json-service.ts";
import { VaultSession, type VaultConnection } from "../stores/vault-session.ts";
import type { RootKey } from "./root-key.ts";

export interface VaultTransitOptions extends VaultConnection {
  /**
   * Name of the key in the transit engine; a key of type aes256-gcm96. Give the token's policy update, not create, on
   * `encrypt/NAME`: with create, a name that is not there makes a new key.
   */
  readonly key: string;
  /** `transit` unless told. */
  readonly mount?: string | undefined;
}

/**
 * A root key that never leaves Vault or OpenBao: wrapping is done there. Vault rotates it without us; `rewrapUnderFirstRoot`
 * of the keyring then moves to the new version. Source: Vault HTTP API, "transit secrets engine".
 *
 * Vaults before 1.13 do not know `associated_data` and pass over it, as they do with all that they do not know: what they
 * wrap could be exchanged for something else of theirs. Hence the first answer is tried, and such a Vault is refused.
 */
export function vaultTransitRootKey(options: VaultTransitOptions): RootKey {
  if (!/^[a-zA-Z0-9_-]{1,128}$/.test(options.key))
    throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: "not the name of a transit key" });
  const session = new VaultSession(options);
  const mount = options.mount ?? "transit";
  const ask = (verb: "encrypt" | "decrypt", body: unknown) => session.call("POST", `${mount}/${verb}/${options.key}`, body);
  const call = async (verb: "encrypt" | "decrypt", body: unknown, member: string): Promise<string> => {
    const answer = await ask(verb, body);
    const text = memberAt(answer.value, "data", member);
    if (answer.status === 200 && typeof text === "string") return text;
    if (isAway(answer.status) && !isWrongCiphertext(answer)) throw session.service.failed(`${verb} a key`, answer);
    throw new KbsError("ERR_KBS_ROOT_KEY_UNUSABLE", {
      message: `Vault did not ${verb} under the transit key ${options.key} (status ${answer.status})`,
      hint: hintFor(answer.status, mount, options.key),
    });
  };
  const decryptBody = (ciphertext: string, additionalData: Uint8Array) => ({
    ciphertext,
    associated_data: encodeBase64(additionalData),
  });
  let binding: Promise<void> | undefined;
  const assertBinds = (ciphertext: string, additionalData: Uint8Array): Promise<void> => {
    binding ??= tryAnother(ciphertext, additionalData).catch((cause: unknown) => {
      binding = undefined;
      throw cause;
    });
    return binding;
  };
  const tryAnother = async (ciphertext: string, additionalData: Uint8Array): Promise<void> => {
    const answer = await ask("decrypt", decryptBody(ciphertext, Buffer.concat([additionalData, Buffer.from("?")])));
    if (answer.status === 400 || isWrongCiphertext(answer)) return;
    if (answer.status !== 200) throw session.service.failed("try the binding of a key", answer);
    throw new KbsError("ERR_KBS_ROOT_KEY_UNUSABLE", {
      message: "Vault does not bind what it wraps to its purpose: it passes over associated_data",
      hint: "use Vault 1.13 or newer, or OpenBao",
    });
  };
  return {
    id: `vault-transit:${mount}/${options.key}`,
    versionOf: (wrapped) => /^vault:v(\d+):/.exec(Buffer.from(wrapped).toString("utf8"))?.[1],
    wrap: async (plaintext, additionalData) => {
      const body = { plaintext: encodeBase64(plaintext), associated_data: encodeBase64(additionalData) };
      const ciphertext = await call("encrypt", body, "ciphertext");
      await assertBinds(ciphertext, additionalData);
      return Buffer.from(ciphertext, "utf8");
    },
    unwrap: async (wrapped, additionalData) => {
      const ciphertext = Buffer.from(wrapped).toString("utf8");
      const plaintext = await call("decrypt", decryptBody(ciphertext, additionalData), "plaintext");
      await assertBinds(ciphertext, additionalData);
      return decodeBase64(plaintext, "the unwrapped key");
    },
    close: () => session.close(),
  };
}

/** Vaults before 1.9 answer so with 500, as if they could not work. */
function isWrongCiphertext({ value }: JsonAnswer): boolean {
  return JSON.stringify(memberAt(value, "errors") ?? "").includes("message authentication failed");
}

function hintFor(status: number, mount: string, key: string): string {
  switch (status) {
    case 403:
      return `the token's policy needs update on ${mount}/encrypt/${key} and ${mount}/decrypt/${key}, and the key must be there: vault write -f ${mount}/keys/${key}`;
    case 404:
      return `is a transit engine mounted at ${mount}, in this namespace?`;
    default:
      return `is ${key} a key of type aes256-gcm96 that is not derived, and its min_decryption_version not above what wrapped the keys?`;
  }
}

export interface CommandRootKeyOptions {
  /** Says which key it is, for the keyring: `hsm-slot-0-kbs-root`. */
  readonly id: string;
  /** Program and arguments; the bytes to wrap come on stdin, the wrapped ones go to stdout. */
  readonly wrap: readonly [string, ...string[]];
  readonly unwrap: readonly [string, ...string[]];
  /** Environment of the programs, e.g. with a PIN; nothing else is passed on. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
}

const maxOutputBytes = 64 << 10;
const commandTimeoutMs = 30_000;

/**
 * A root key behind a program: a PKCS#11 token through `pkcs11-tool` or `openssl`, a cloud's KMS through its tool.
 *
 * The program may know no additional data; therefore the digest of it is wrapped along and compared afterwards. Throws
 * `ERR_KBS_ROOT_KEY_UNUSABLE` when the program fails.
 */
export function commandRootKey(options: CommandRootKeyOptions): RootKey {
  const digest = (additionalData: Uint8Array) => createHash("sha256").update(additionalData).digest();
  return {
    id: `command:${options.id}`,
    wrap: (plaintext, additionalData) => run(options.wrap, Buffer.concat([digest(additionalData), plaintext]), options),
    unwrap: async (wrapped, additionalData) => {
      const opened = withoutOaepRemark(await run(options.unwrap, wrapped, options));
      if (!opened.subarray(0, 32).equals(digest(additionalData))) {
        throw new KbsError("ERR_KBS_ROOT_KEY_UNUSABLE", { message: `the root key command of ${options.id} gave back another key's bytes` });
      }
      return opened.subarray(32);
    },
  };
}

function run(command: readonly [string, ...string[]], input: Uint8Array, options: CommandRootKeyOptions): Promise<Buffer> {
  const [program, ...parameters] = command;
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown) =>
      reject(
        new KbsError("ERR_KBS_ROOT_KEY_UNUSABLE", {
          message: `the root key command ${program} ${why}`,
          cause,
          hint: "run it by hand: bytes on stdin, bytes on stdout",
        }),
      );
    const child = spawn(program, parameters, {
      env: { ...options.environment },
      stdio: ["pipe", "pipe", "ignore"],
      timeout: commandTimeoutMs,
    });
    const chunks: Buffer[] = [];
    let size = 0;
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxOutputBytes) child.kill("SIGKILL");
      else chunks.push(chunk);
    });
    child.on("error", (cause) => fail(`cannot be run: ${describeCause(cause)}`, cause));
    // A program that does not read its input is found by its exit status.
    child.stdin.on("error", () => undefined);
    child.on("close", (code, signal) =>
      code === 0 ? resolve(Buffer.concat(chunks, size)) : fail(signal === null ? `ended with ${code}` : `was ended by ${signal}`),
    );
    child.stdin.end(input);
  });
}
