import { execFile, spawn } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { caCertificate, serverCertificate, serverKey } from "./registry/test-certificates.ts";
import { freePort } from "./free-port.ts";

const peers = resolve(import.meta.dirname, "../.peers/bin");
const programs = {
  kbs: [process.env["TRUSTEE_KBS"], join(peers, "trustee-kbs")],
  "kbs-client": [process.env["TRUSTEE_KBS_CLIENT"], join(peers, "kbs-client")],
  "restful-as": [process.env["TRUSTEE_RESTFUL_AS"], join(peers, "restful-as")],
};
const variables = { kbs: "TRUSTEE_KBS", "kbs-client": "TRUSTEE_KBS_CLIENT", "restful-as": "TRUSTEE_RESTFUL_AS" };

function programPath(program: keyof typeof programs): string | undefined {
  return programs[program].find((path) => path !== undefined && existsSync(path));
}

/**
 * Whether a program of CoCo Trustee is missing. Says so aloud, in CI too, and fails nowhere: no package brings one. The
 * same answers are given by an imitation then.
 */
export function missingTrustee(program: keyof typeof programs): boolean {
  if (programPath(program) !== undefined) return false;
  process.stderr.write(`SKIPPED: tests with the real ${program} of Trustee: none found (see CONTRIBUTING.md, ${variables[program]})\n`);
  return true;
}

export interface TestTrustee {
  /** `https://127.0.0.1:PORT`; its certificate is by `caCertificate` of the test certificates. */
  readonly url: string;
  /** What it keeps. */
  readonly data: string;
  /** A token of the key that it trusts; for an hour as `admin` unless told. */
  token(claims?: Readonly<Record<string, unknown>>): string;
  /** What it has written so far. */
  log(): string;
  stop(): Promise<void>;
}

/**
 * Trustee's own server (0.21) on loopback, with TLS, its attestation service for the sample TEE built in, and two roles:
 * `admin` may do everything, `publisher` store below `default/image-kek`.
 */
export async function startTrustee({
  store = "local_fs",
  tokensOf,
}: {
  readonly store?: "local_fs" | "local_json";
  /** The certificate (PEM) of whose attestation tokens it takes, in place of its own. */
  readonly tokensOf?: string;
} = {}): Promise<TestTrustee> {
  const folder = await mkdtemp(join(tmpdir(), "trustee-"));
  const data = join(folder, "data");
  await mkdir(data);
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const port = await freePort();
  const configuration = {
    http_server: {
      sockets: [`127.0.0.1:${port}`],
      private_key: await file("server.key", serverKey),
      certificate: await file("server.crt", serverCertificate),
      worker_count: 1,
    },
    attestation_token:
      tokensOf === undefined ? { insecure_header_jwk: true } : { trusted_certs_paths: [await file("tokens.pem", tokensOf)] },
    attestation_service: {
      type: "coco_as_builtin",
      attestation_token_broker: { duration_min: 5 },
      rvps_config: { type: "BuiltIn" },
    },
    admin: {
      authorization_mode: "AuthenticatedAuthorization",
      authentication: {
        bearer_jwt: {
          identity_providers: [{ public_key_uri: await file("admin.pem", publicKey.export({ type: "spki", format: "pem" }).toString()) }],
        },
      },
      authorization: {
        regex_acl: {
          acls: [
            { role: "admin", allowed_endpoints: "^/kbs/.+$" },
            { role: "publisher", allowed_endpoints: "^/kbs/v0/resource/default/image-kek/[^/?]+$" },
          ],
        },
      },
    },
    storage_backend: { storage_type: store, backends: { [store]: { [store === "local_fs" ? "dir_path" : "file_dir_path"]: data } } },
    plugins: [{ name: "resource", storage_backend_type: "kvstorage" }],
  };
  const url = `https://127.0.0.1:${port}`;
  const running = await launch("kbs", ["--config-file", await file("kbs.json", JSON.stringify(configuration))], folder, url);
  return {
    url,
    data,
    token: (claims = {}) => {
      const now = Math.floor(Date.now() / 1000);
      const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
      const signed = `${part({ alg: "EdDSA", typ: "JWT" })}.${part({ role: "admin", iat: now, exp: now + 3600, ...claims })}`;
      return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
    },
    log: running.log,
    stop: async () => {
      await running.kill();
      await rm(folder, { recursive: true });
    },
  };
}

/**
 * Trustee's attestation service over REST on loopback, for the sample TEE, with a P-256 key of its own and TLS.
 */
export async function startTrusteeAttestation(): Promise<{ readonly url: string; kill(): Promise<void>; stop(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "trustee-as-"));
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeFile(join(folder, "token.key"), privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  await writeFile(join(folder, "server.crt"), serverCertificate);
  await writeFile(join(folder, "server.key"), serverKey, { mode: 0o600 });
  const configuration = {
    storage_backend: { storage_type: "LocalFs", backends: { local_fs: { dir_path: join(folder, "data") } } },
    rvps_config: { type: "BuiltIn" },
    attestation_token_broker: { duration_min: 5, signer: { key_path: join(folder, "token.key") } },
  };
  await writeFile(join(folder, "as.json"), JSON.stringify(configuration));
  const address = `127.0.0.1:${await freePort()}`;
  const url = `https://${address}`;
  const args = ["--config-file", "as.json", "--socket", address, "--https-pubkey-cert", "server.crt", "--https-prikey", "server.key"];
  const running = await launch("restful-as", args, folder, url);
  return {
    url,
    kill: running.kill,
    stop: async () => {
      await running.kill();
      await rm(folder, { recursive: true });
    },
  };
}

/** Starts a server, and waits until it answers anything at all. */
async function launch(
  program: keyof typeof programs,
  args: readonly string[],
  cwd: string,
  url: string,
): Promise<{ readonly log: () => string; readonly kill: () => Promise<void> }> {
  const child = spawn(programPath(program) ?? program, args, { cwd, env: { NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  const gone = new Promise((done) => child.once("exit", done));
  let log = "";
  const keep = (chunk: Buffer): void => {
    log = `${log}${chunk.toString()}`.slice(-20_000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const agent = new Agent({ connect: { ca: caCertificate } });
  const answers = (): Promise<boolean> =>
    request(`${url}/kbs/v0/resource/a/b/c`, { dispatcher: agent }).then(
      async ({ body }) => body.dump().then(() => true),
      () => false,
    );
  for (let tries = 0; !(await answers()); tries += 1) {
    if (child.exitCode !== null || tries > 300) throw new Error(`${program} does not start: ${log}`);
    await sleep(50);
  }
  await agent.close();
  return {
    log: () => log,
    kill: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await gone;
    },
  };
}

/** Runs Trustee's own client. */
export function kbsClient(args: readonly string[], cwd: string): Promise<{ readonly status: number; readonly output: string }> {
  return new Promise((done) => {
    const env = { HOME: cwd, NO_COLOR: "1", RUST_LOG: "error" };
    execFile(programPath("kbs-client") ?? "kbs-client", [...args], { cwd, env, timeout: 50_000 }, (error, stdout, stderr) => {
      done({ status: error === null ? 0 : typeof error.code === "number" ? error.code : -1, output: `${stdout}${stderr}` });
    });
  });
}
