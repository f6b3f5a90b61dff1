import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Agent, request } from "undici";
import { caCertificate, serverCertificate, serverKey } from "./registry/test-certificates.ts";
import { freePort } from "./free-port.ts";

const peers = resolve(import.meta.dirname, "../.peers/bin");
/** A server's program: of Vault or of OpenBao, which takes the same configuration. */
const program = [process.env["VAULT_BINARY"], process.env["BAO_BINARY"], join(peers, "vault"), join(peers, "bao")].find(
  (path) => path !== undefined && existsSync(path),
);

/**
 * Whether there is no real Vault or OpenBao. Says so aloud, in CI too, and fails nowhere: no package brings one. The same
 * acts are tried on an imitation then.
 */
export function missingVault(): boolean {
  if (program !== undefined) return false;
  process.stderr.write("SKIPPED: tests with a real Vault or OpenBao: none found (see CONTRIBUTING.md, VAULT_BINARY and BAO_BINARY)\n");
  return true;
}

export interface VaultAnswer {
  readonly status: number;
  readonly value: Readonly<Record<string, unknown>>;
}

export interface TestVault {
  /** `https://127.0.0.1:PORT`; its certificate is by `caCertificate` of the test certificates. */
  readonly url: string;
  readonly rootToken: string;
  /** Whether its transit engine knows `associated_data`, as from Vault 1.13 on. */
  readonly binds: boolean;
  /** A request with the root token unless told; `path` begins after `/v1/`. */
  call(method: string, path: string, body?: unknown, token?: string): Promise<VaultAnswer>;
  /** A token with the rights of a policy and no others. */
  token(policy: string, more?: Readonly<Record<string, unknown>>): Promise<string>;
  seal(): Promise<void>;
  unseal(): Promise<void>;
  /** Ends it as a crash would. */
  kill(): Promise<void>;
  /** Starts it again, sealed as every Vault is at first. */
  startSealed(): Promise<void>;
  /** Starts it again and unseals it. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A real server on loopback, with TLS and storage in a folder of its own, KV version 2 on `secret`, and transit. Files are
 * there at once; integrated storage (`raft`) has the limits of Vaults in production, and elects itself for seconds.
 */
export async function startVault({ storage = "file" }: { readonly storage?: "file" | "raft" } = {}): Promise<TestVault> {
  const folder = await mkdtemp(join(tmpdir(), "vault-"));
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  await mkdir(join(folder, "data"));
  const [port, clusterPort] = await Promise.all([freePort(), freePort()]);
  const url = `https://127.0.0.1:${port}`;
  const configuration = await file(
    "vault.json",
    JSON.stringify({
      storage: {
        [storage]: { path: join(folder, "data"), ...(storage === "raft" ? { node_id: "one", performance_multiplier: "1" } : {}) },
      },
      listener: {
        tcp: {
          address: `127.0.0.1:${port}`,
          cluster_address: `127.0.0.1:${clusterPort}`,
          tls_cert_file: await file("server.crt", serverCertificate),
          tls_key_file: await file("server.key", serverKey),
        },
      },
      api_addr: url,
      cluster_addr: `https://127.0.0.1:${clusterPort}`,
      disable_mlock: true,
      log_level: "error",
    }),
  );
  const agent = new Agent({ connect: { ca: caCertificate } });
  let rootToken = "";
  let unsealKey = "";
  let running: ChildProcess | undefined;
  let log = "";

  const call: TestVault["call"] = async (method, path, body, token = rootToken) => {
    const answer = await request(`${url}/v1/${path}`, {
      dispatcher: agent,
      method: method as "GET",
      headers: { "x-vault-token": token },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.body.text();
    return { status: answer.statusCode, value: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>) };
  };
  const must = async (method: string, path: string, body?: unknown): Promise<VaultAnswer> => {
    const answer = await call(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.value)}\n${log}`);
    return answer;
  };
  const healthIs = (...statuses: readonly number[]): Promise<void> =>
    until(async () => {
      if (running?.exitCode !== null || running.signalCode !== null) throw new Error(`the server ended: ${log}`);
      const status = (await call("GET", "sys/health").catch(() => undefined))?.status;
      return status !== undefined && statuses.includes(status);
    });
  const startSealed = async (): Promise<void> => {
    running = spawn(program ?? "vault", ["server", `-config=${configuration}`], {
      cwd: folder,
      env: {},
      stdio: ["ignore", "pipe", "pipe"],
    });
    const keep = (chunk: Buffer): void => {
      log = `${log}${chunk.toString()}`.slice(-4000);
    };
    running.stdout?.on("data", keep);
    running.stderr?.on("data", keep);
    await healthIs(501, 503);
  };
  const unseal = async (): Promise<void> => {
    await must("PUT", "sys/unseal", { key: unsealKey });
    await healthIs(200);
  };
  const kill = async (): Promise<void> => {
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise((done) => running?.once("exit", done));
    running.kill("SIGKILL");
    await gone;
  };

  try {
    await startSealed();
    const { value } = await must("PUT", "sys/init", { secret_shares: 1, secret_threshold: 1 });
    rootToken = String(value["root_token"]);
    unsealKey = String((value["keys_base64"] as readonly string[])[0]);
    await unseal();
    await must("POST", "sys/mounts/secret", { type: "kv", options: { version: "2" } });
    await must("POST", "sys/mounts/transit", { type: "transit" });
    // A new engine of version 2 says no for a moment.
    await until(async () => (await call("GET", "secret/config")).status === 200);
  } catch (error) {
    await agent.close();
    await kill();
    await rm(folder, { recursive: true, force: true });
    throw error;
  }

  const transit = async (verb: string, body: unknown): Promise<unknown> =>
    (await call("POST", `transit/${verb}/trial`, body)).value["data"];
  const ciphertext = await transit("encrypt", { plaintext: "eA==", associated_data: "YQ==" });
  const opened = await transit("decrypt", { ...(ciphertext as object), associated_data: "Yg==" });

  return {
    url,
    rootToken,
    binds: opened === undefined,
    call,
    token: async (policy, more = {}) => {
      const name = `p-${randomBytes(6).toString("hex")}`;
      await must("PUT", `sys/policies/acl/${name}`, { policy });
      const made = await must("POST", "auth/token/create", { policies: [name], ttl: "1h", ...more });
      return (made.value["auth"] as { readonly client_token: string }).client_token;
    },
    seal: async () => {
      await must("PUT", "sys/seal");
      await healthIs(503);
    },
    unseal,
    kill,
    startSealed,
    start: async () => {
      await startSealed();
      await unseal();
    },
    stop: async () => {
      await agent.close();
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 50_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error("the server did not do it");
    await new Promise((done) => setTimeout(done, 50));
  }
}
