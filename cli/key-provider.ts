import { createHash, randomBytes, randomUUID } from "node:crypto";
import { readFile, readlink, realpath } from "node:fs/promises";
import { join, sep } from "node:path";
import { KbsError, type KbsAdmin, type KbsClient } from "../src/kbs/index.ts";
import { keyProvider, type KekRegistry, type KeyProvider, type KeyPlace } from "../src/keyprovider/index.ts";
import { brokerUnwrapper, type KeyUnwrapper } from "../src/keywrap/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import { connectAdmin, connectGuest, type KbsOptions } from "./kbs-connection.ts";
import { openKeys } from "./open-keys.ts";
import type { Shell } from "./shell.ts";

export interface ProviderOptions extends KbsOptions {
  readonly name?: string;
  readonly key?: readonly string[];
  readonly keyDir?: string;
  readonly allowSample?: boolean;
}

/** A key provider and everything it is connected to. */
export interface WiredProvider {
  readonly provider: KeyProvider;
  close(): Promise<void>;
}

/** `exec` is one process of many in a run and reads the caller's own files; `serve` outlives runs and reads none unasked. */
export async function wireProvider(shell: Shell, options: ProviderOptions, mode: "exec" | "serve"): Promise<WiredProvider> {
  const hasKbs = (options.kbs ?? shell.env["OCISEAL_KBS_URL"] ?? "") !== "";
  const hasToken = (options.adminToken ?? options.kbsAdminToken) !== undefined;
  const values = options.key ?? (hasKbs ? ["kbs"] : []);
  const local = await openKeys(
    shell,
    values.filter((value) => value !== "kbs"),
    options,
  );
  const admin = hasToken ? await connectAdmin(shell, options) : undefined;
  const guest = values.includes("kbs") ? lazyGuest(shell, options) : undefined;
  const runTag = mode === "exec" ? await runTagger() : undefined;
  const provider = keyProvider({
    name: options.name,
    registry: admin === undefined ? undefined : registryOf(admin),
    readKeyFile: keyFileReader(options.keyDir, mode),
    unwrappers: async () => [...local.unwrappers, ...(guest === undefined ? [] : [guest.unwrapper()])],
    sample: options.allowSample === true ? "allowed" : "refused",
    runTag,
    freshTag: randomUUID,
    now: Date.now,
    log: ({ operation, kid, registered }) => {
      if (registered === "not-registered") shell.warn(`the key ${kid} was registered nowhere: see to it that guests get it`);
      else shell.note(`${operation}${kid === undefined ? "" : ` ${kid}`}`);
    },
  });
  return {
    provider,
    async close() {
      provider.close();
      await local.close();
      await admin?.close();
      await guest?.close();
    },
  };
}

/** Attests when the first packet comes, not before: who only wraps needs no TEE. */
export function lazyGuest(shell: Shell, options: KbsOptions): { unwrapper(): KeyUnwrapper; close(): Promise<void> } {
  let connected: Promise<KbsClient> | undefined;
  const connect = (): Promise<KbsClient> => {
    if (connected === undefined) {
      const attempt = connectGuest(shell, options);
      connected = attempt;
      attempt.catch(() => (connected = undefined));
    }
    return connected;
  };
  return {
    // A new one for each call: a key that was taken back must not live on in a service.
    unwrapper: () =>
      brokerUnwrapper({
        broker: { fetchKey: async (uri, call) => (await connect()).fetchResource(uri, call) },
        name: "the Key Broker Service",
        reach: "remote",
      }),
    close: async () => (await connected)?.close(),
  };
}

/** Keys are kept by a KBS; what it cannot prove to keep is not used. */
export function registryOf(admin: KbsAdmin): KekRegistry {
  return {
    async register(uri, name, options) {
      if (name === "perhaps-used" && (await overwrites(admin, uri, options))) return undefined;
      try {
        const { key, uri: proved } = await admin.registerKey(uri, options);
        return { uri: proved, kek: key };
      } catch (error) {
        if (error instanceof KbsError && error.code === "ERR_KBS_CONFLICT") return undefined;
        throw error;
      }
    },
    async registerGiven(uri, kek, options) {
      // The caller's own key under the caller's own name, as coco_keyprovider registers it: Trustee may write it again.
      const condition = (await overwrites(admin, uri, options)) ? "any" : "absent";
      await admin.putResource(uri, kek, { ...options, condition });
      await admin.proveResource(uri, kek, options);
      return { uri, kek };
    },
  };
}

/**
 * Whether a service would put a new key in place of one that is there. Trustee does, and cannot be asked: it has no
 * proof of possession, which is how it is told. A key that was never made proves nothing else.
 */
export async function overwrites(
  admin: KbsAdmin,
  uri: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<boolean> {
  try {
    return (await admin.proveResource(uri, randomBytes(32), options)) === "accepted";
  } catch (error) {
    if (error instanceof KbsError && error.code === "ERR_KBS_REGISTRATION_UNPROVED") return false;
    throw error;
  }
}

function keyFileReader(folder: string | undefined, mode: "exec" | "serve"): ((path: string) => Promise<Uint8Array>) | undefined {
  if (folder === undefined) return mode === "exec" ? (path) => readSmallFile(path, "key file", 4096) : undefined;
  return async (path) => {
    // After links are followed: a caller must not be able to have other files registered as keys.
    const root = await realpath(folder);
    const real = await realpath(join(root, path)).catch(() => undefined);
    if (real === undefined || !real.startsWith(`${root}${sep}`))
      throw usage(`no key file of that name lies in the folder of --key-dir`, "give its name relative to that folder");
    return readSmallFile(real, "key file", 4096);
  };
}

const bucketMs = 3_600_000;

/**
 * Names the run that this process belongs to. The caller (skopeo, podman) starts one provider for each layer, so its own
 * process is the run: equal for all layers, and made unlike any other by the boot, the PID namespace and its start time.
 * The hour keeps a caller that lives for weeks from having one key for everything. Where there is no /proc each layer
 * gets a key of its own.
 */
async function runTagger(): Promise<((place: KeyPlace) => string) | undefined> {
  const facts = await Promise.all([
    readFile("/proc/sys/kernel/random/boot_id", "utf8"),
    readlink("/proc/self/ns/pid"),
    readFile(`/proc/${process.ppid}/stat`, "utf8").then((text) => text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? ""),
  ]).catch(() => undefined);
  if (facts === undefined) return undefined;
  const hour = Math.floor(Date.now() / bucketMs);
  return ({ repository, type }) => {
    const hash = createHash("sha256").update(JSON.stringify([...facts, process.ppid, hour, repository, type]));
    return hash.digest("hex").slice(0, 32);
  };
}
