import { openAttester } from "../src/attestation/index.ts";
import { connectKbs, connectKbsAdmin, KbsError, type KbsAdmin, type KbsClient, type KbsTransportOptions } from "../src/kbs/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { Shell } from "./shell.ts";

/** Flags of commands that talk to a KBS; all optional. */
export interface KbsOptions {
  readonly kbs?: string;
  readonly kbsAdminToken?: string;
  readonly adminToken?: string;
  readonly tee?: string;
  readonly tsmPath?: string;
  readonly tlsCa?: string;
  readonly tlsClientCert?: string;
  readonly tlsClientKey?: string;
  readonly plainHttp?: readonly string[];
}

/** Connects as a guest: attests with the TEE that the options name. */
export async function connectGuest(shell: Shell, options: KbsOptions): Promise<KbsClient> {
  return connectKbs({
    ...(await transportOf(shell, options)),
    attester: await openAttester({ tee: teeOf(options.tee ?? "auto"), tsmPath: options.tsmPath }),
  });
}

/** Connects as an administrator, with the token of `--kbs-admin-token` or `--admin-token`. */
export async function connectAdmin(shell: Shell, options: KbsOptions): Promise<KbsAdmin> {
  const file = options.adminToken ?? options.kbsAdminToken;
  if (file === undefined)
    throw usage("an administration token is needed", "give the file that holds it with --kbs-admin-token (kbs commands: --admin-token)");
  const token = (await readSmallFile(file, "administration token", 64 * 1024)).toString("utf8").trim();
  return connectKbsAdmin({ ...(await transportOf(shell, options)), token });
}

/** Where the KBS is and how it is recognised. Throws `ERR_USAGE` when nobody said. */
export async function transportOf(shell: Shell, options: KbsOptions): Promise<KbsTransportOptions> {
  const url = options.kbs ?? shell.env["OCISEAL_KBS_URL"];
  if (url === undefined || url === "")
    throw usage("no Key Broker Service was named", "give its address with --kbs URL, or set OCISEAL_KBS_URL");
  const read = async (path: string): Promise<string> => (await readSmallFile(path, "certificate")).toString("utf8");
  const { tlsCa, tlsClientCert, tlsClientKey } = options;
  if ((tlsClientCert === undefined) !== (tlsClientKey === undefined)) throw usage("--tls-client-cert and --tls-client-key go together");
  const tls = {
    ...(tlsCa === undefined ? {} : { authorities: await read(tlsCa) }),
    ...(tlsClientCert === undefined || tlsClientKey === undefined
      ? {}
      : { clientCertificate: { certificate: await read(tlsClientCert), privateKey: await read(tlsClientKey) } }),
  };
  const host = URL.canParse(url) ? new URL(url).host : "";
  return { url, tls, plainHttp: (options.plainHttp ?? []).includes(host) ? "allowed" : "loopback-only" };
}

const tees: ReadonlySet<string> = new Set(["auto", "tdx", "snp", "sample"]);

/** Checks `--tee`. Throws `ERR_USAGE`. */
export function teeOf(tee: string): "auto" | "tdx" | "snp" | "sample" {
  if (tees.has(tee)) return tee as "auto";
  throw usage(`--tee takes auto, tdx, snp or sample, not ${tee}`);
}

/** Runs work as an administrator, and closes the connection. */
export async function withAdmin<Result>(shell: Shell, options: KbsOptions, work: (admin: KbsAdmin) => Promise<Result>): Promise<Result> {
  const admin = await connectAdmin(shell, options);
  try {
    return await work(admin);
  } finally {
    await admin.close();
  }
}

/** `undefined` in place of `ERR_KBS_NOT_FOUND`. */
export async function undefinedIfAbsent<Value>(asked: Promise<Value>): Promise<Value | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof KbsError && error.code === "ERR_KBS_NOT_FOUND") return undefined;
    throw error;
  }
}

/** What a dry run answers where the real one would be told that there is no such thing. */
export function notFound(message: string, hint: string): KbsError {
  return new KbsError("ERR_KBS_NOT_FOUND", { message, hint });
}
