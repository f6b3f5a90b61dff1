import { fstatSync } from "node:fs";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { collect } from "../../src/bytes/index.ts";
import {
  containerdConfig,
  decodeLayer,
  KeyproviderError,
  parsePayload,
  payloadLimits,
  type LayerPayload,
} from "../../src/keyprovider/index.ts";
import { parsePrivateKey, privateKeyUnwrapper, providerUnwrapper, type KeyUnwrapper, type RecipientKey } from "../../src/keywrap/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import type { KbsOptions } from "../kbs-connection.ts";
import { lazyGuest } from "../key-provider.ts";
import { providerEnvironment, readProviderConfig } from "../provider-config.ts";
import type { Shell } from "../shell.ts";

interface DecoderOptions extends KbsOptions {
  readonly decryptionKeysPath?: string;
  readonly printConfig?: boolean;
  readonly containerd?: string;
  readonly spoolDir?: string;
}

/** containerd's stream processor: description on file descriptor 3, ciphertext on stdin, plaintext on stdout. */
export const ctdDecoder: Action<DecoderOptions> = async (shell, _args, options) => {
  if (options.printConfig === true) return printConfig(shell, options);
  const payload = parsePayload(await readPayload());
  const guest = kbsUrl(shell, options) === "" ? undefined : lazyGuest(shell, options);
  try {
    const plaintext = await decodeLayer(
      {
        layer: payload.descriptor,
        mediaType: shell.env["STREAM_PROCESSOR_MEDIATYPE"],
        source: shell.stdin,
        unwrappers: [
          ...(await localUnwrappers(shell, payload, options)),
          ...(await providers(shell)),
          ...(guest === undefined ? [] : [guest.unwrapper()]),
        ],
        spoolFolder: options.spoolDir ?? tmpdir(),
      },
      { signal: shell.signal },
    );
    await pipeline(plaintext, shell.stdout, { end: false, signal: shell.signal });
  } finally {
    await guest?.close();
  }
};

/** The same text for `doctor containerd`. */
export const printContainerdConfig: Action<DecoderOptions> = (shell, _args, options) => printConfig(shell, options);

async function printConfig(shell: Shell, options: DecoderOptions): Promise<void> {
  const { containerd = "1" } = options;
  if (containerd !== "1" && containerd !== "2") throw usage(`--containerd takes 1 or 2, not ${containerd.slice(0, 20)}`);
  const kbs = kbsUrl(shell, options);
  const config = shell.env["OCICRYPT_KEYPROVIDER_CONFIG"] ?? "";
  const text = containerdConfig({
    command: ourselves(),
    args: [
      ...flag("--decryption-keys-path", inFull(options.decryptionKeysPath)),
      ...flag("--spool-dir", inFull(options.spoolDir)),
      ...flag("--kbs", kbs === "" ? undefined : kbs),
      ...flag("--tee", options.tee === "auto" ? undefined : options.tee),
      ...flag("--tsm-path", inFull(options.tsmPath)),
      ...flag("--tls-ca", inFull(options.tlsCa)),
      ...flag("--tls-client-cert", inFull(options.tlsClientCert)),
      ...flag("--tls-client-key", inFull(options.tlsClientKey)),
      ...(options.plainHttp ?? []).flatMap((host) => flag("--plain-http", host)),
    ],
    env: config === "" ? {} : { OCICRYPT_KEYPROVIDER_CONFIG: resolve(config) },
    version: containerd === "1" ? 2 : 3,
  });
  await shell.result(text.trimEnd(), { config: text });
}

/** Node and our script, or the one program that holds both. */
function ourselves(): readonly [string, ...string[]] {
  const script = resolve(process.argv[1] ?? process.execPath);
  return script === process.execPath ? [script] : [process.execPath, script];
}

function flag(name: string, value: string | undefined): readonly string[] {
  return value === undefined ? [] : [name, value];
}

/** containerd starts the decoder in another folder. */
function inFull(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}

function kbsUrl(shell: Shell, options: KbsOptions): string {
  return options.kbs ?? shell.env["OCISEAL_KBS_URL"] ?? "";
}

const payloadFd = 3;
const payloadTimeoutMs = 60_000;

/** Node opens descriptors of its own from 3 up: only a pipe can be containerd's. */
async function readPayload(): Promise<Buffer> {
  if (!isPipe(payloadFd)) {
    throw new KeyproviderError("ERR_KEYPROVIDER_PAYLOAD_MISSING", {
      message: "file descriptor 3 is no pipe, so containerd described no layer",
      hint: "this command is started by containerd: see ociseal ctd-decoder --print-config; other processor ids get no description",
    });
  }
  const pipe = new Socket({ fd: payloadFd, readable: true, writable: false });
  pipe.setTimeout(payloadTimeoutMs, () => pipe.destroy(usage("nothing came on file descriptor 3")));
  try {
    return await collect(pipe as AsyncIterable<Uint8Array>, { maxBytes: payloadLimits.maxBytes, subject: "what containerd handed over" });
  } finally {
    pipe.destroy();
  }
}

function isPipe(fd: number): boolean {
  try {
    const found = fstatSync(fd);
    return found.isFIFO() || found.isSocket();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EBADF") return false;
    throw error;
  }
}

async function localUnwrappers(shell: Shell, payload: LayerPayload, options: DecoderOptions): Promise<readonly KeyUnwrapper[]> {
  const folder = options.decryptionKeysPath;
  const keys: RecipientKey[] = folder === undefined ? [] : [...(await keysIn(shell, folder))];
  payload.keys.forEach(({ bytes, password }, position) => {
    tryKey(shell, keys, () => parsePrivateKey(bytes, { name: `private key ${position} of the client`, password }));
  });
  return keys.length === 0 ? [] : [privateKeyUnwrapper(keys)];
}

async function providers(shell: Shell): Promise<readonly KeyUnwrapper[]> {
  const config = await readProviderConfig(shell);
  return config === undefined ? [] : [...config.keys()].map((name) => providerUnwrapper({ config, name, env: providerEnvironment(shell) }));
}

const maxKeyFiles = 1000;

/** Private keys below a folder. Links may lead about inside it, as in mounted Kubernetes Secrets, and never out of it. */
async function keysIn(shell: Shell, folder: string): Promise<readonly RecipientKey[]> {
  const root = await realpath(folder);
  const names = await readdir(root, { recursive: true });
  if (names.length > maxKeyFiles) throw usage(`${folder} holds more than ${maxKeyFiles} files`, "name the folder that holds only keys");
  const keys: RecipientKey[] = [];
  for (const name of names.toSorted()) {
    const path = join(root, name);
    if ((await lstat(path)).isSymbolicLink() && !(await realpath(path)).startsWith(`${root}${sep}`)) {
      shell.warn(`${name} leads out of ${folder} and is not read`);
      continue;
    }
    if (!(await stat(path)).isFile()) continue;
    const bytes = await readSmallFile(path, "private key");
    tryKey(shell, keys, () => parsePrivateKey(bytes, { name }));
  }
  return keys;
}

/** One file that is no key, or whose password is missing, must not keep the others from opening a layer. */
function tryKey(shell: Shell, keys: RecipientKey[], parse: () => RecipientKey): void {
  try {
    keys.push(parse());
  } catch (error) {
    shell.warn(`a key is passed over: ${error instanceof Error ? error.message : String(error)}`);
  }
}
