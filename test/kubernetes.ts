import { execFile, spawn, type ChildProcess } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { Agent, request } from "undici";
import { missingPeers } from "./peers.ts";
import { caCertificate, serverCertificate, serverKey } from "./registry/test-certificates.ts";
import { freePort } from "./free-port.ts";

const run = promisify(execFile);

type Program = "etcd" | "kube-apiserver" | "kube-controller-manager" | "kubectl";

/** The variable that controller-runtime's envtest reads too: a folder with the programs of a control plane. */
const folders = [process.env["KUBEBUILDER_ASSETS"], resolve(import.meta.dirname, "../.peers/bin")];

function programPath(program: Program): string | undefined {
  return folders.flatMap((folder) => (folder === undefined ? [] : [join(folder, program)])).find((path) => existsSync(path));
}

/** Whether kubectl is missing, which a package brings. Says so aloud; throws where `CI` is set. */
export function missingKubectl(): boolean {
  return programPath("kubectl") === undefined && missingPeers("kubectl");
}

/** Runs kubectl; with a cluster as somebody who may do everything. */
export async function kubectl(args: readonly string[], cluster?: TestKubernetes): Promise<string> {
  const flags = cluster === undefined ? [] : ["--kubeconfig", cluster.kubeconfig];
  const { stdout } = await run(programPath("kubectl") ?? "kubectl", [...flags, ...args], { maxBuffer: 16 << 20 });
  return stdout;
}

/** Runs a shell script of a page whose `kubectl` is that of the cluster, with the rights of an administrator. */
export async function runWithKubectl(script: string, cwd: string, cluster: TestKubernetes): Promise<void> {
  const path = [dirname(programPath("kubectl") ?? ""), process.env["PATH"]].join(delimiter);
  await run("sh", ["-c", script], { cwd, env: { PATH: path, HOME: cwd, KUBECONFIG: cluster.kubeconfig } });
}

/**
 * Whether there is no real API server, or what is needed beside it. Says so aloud, in CI too, and fails nowhere: no package
 * brings an API server, and building one takes longer than all tests. The same acts are tried on an imitation then.
 */
export function missingKubernetes(...more: readonly Program[]): boolean {
  const missing = (["etcd", "kube-apiserver", ...more] as const).filter((program) => programPath(program) === undefined);
  if (missing.length === 0) return false;
  process.stderr.write(
    `SKIPPED: tests with a real Kubernetes API server: no ${missing.join(", ")} (see CONTRIBUTING.md, KUBEBUILDER_ASSETS)\n`,
  );
  return true;
}

export interface KubernetesAnswer {
  readonly status: number;
  readonly value: Readonly<Record<string, unknown>>;
}

export interface TestKubernetes {
  /** `https://127.0.0.1:PORT`; its certificate is by `caCertificate` of the test certificates. */
  readonly url: string;
  readonly port: number;
  /** File with the authority. */
  readonly authorityFile: string;
  /** File with the token of somebody who may do everything. */
  readonly adminTokenFile: string;
  /** For kubectl, with that token. */
  readonly kubeconfig: string;
  /** A request with that token. */
  call(method: string, path: string, body?: unknown): Promise<KubernetesAnswer>;
  /** A token of a service account, as the kubelet asks for it. */
  accountToken(namespace: string, account: string, audience?: string, boundSecret?: { readonly name: string }): Promise<string>;
  /** Ends the API server as a crash would; etcd goes on. */
  kill(): Promise<void>;
  /** Starts it again. */
  start(): Promise<void>;
  startControllers(): Promise<void>;
  stop(): Promise<void>;
}

/** The issuer of a cluster that was set up by kubeadm, which deploy/ takes for granted. */
const issuer = "https://kubernetes.default.svc.cluster.local";

/** A real API server with etcd on loopback and a folder of its own: RBAC, service accounts, the admission of a cluster. No node. */
export async function startKubernetes(): Promise<TestKubernetes> {
  const folder = await mkdtemp(join(tmpdir(), "kubernetes-"));
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const [port, clientPort, peerPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const url = `https://127.0.0.1:${port}`;
  const token = randomBytes(16).toString("hex");
  const authorityFile = await file("ca.crt", caCertificate);
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const accountKey = await file("account.key", privateKey.export({ format: "pem", type: "pkcs8" }).toString());
  const cluster = { name: "test", cluster: { server: url, "certificate-authority": authorityFile } };
  const user = { name: "test", user: { token } };
  const context = { name: "test", context: { cluster: "test", user: "test" } };
  const kubeconfig = await file(
    "kubeconfig",
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [cluster],
      users: [user],
      contexts: [context],
      "current-context": "test",
    }),
  );
  const etcdUrl = `http://127.0.0.1:${clientPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const apiServer = {
    "etcd-servers": etcdUrl,
    "bind-address": "127.0.0.1",
    "advertise-address": "127.0.0.1",
    "endpoint-reconciler-type": "none",
    "secure-port": String(port),
    "tls-cert-file": await file("server.crt", serverCertificate),
    "tls-private-key-file": await file("server.key", serverKey),
    "token-auth-file": await file("tokens.csv", `${token},administrator,administrator,system:masters\n`),
    "authorization-mode": "RBAC",
    "service-account-issuer": issuer,
    "service-account-key-file": await file("account.pub", publicKey.export({ format: "pem", type: "spki" }).toString()),
    "service-account-signing-key-file": accountKey,
    "service-cluster-ip-range": "10.96.0.0/24",
    "cert-dir": folder,
  };
  const controllers = {
    kubeconfig,
    "leader-elect": "false",
    "secure-port": "0",
    "service-account-private-key-file": accountKey,
    "root-ca-file": authorityFile,
  };
  const etcd = {
    "data-dir": join(folder, "etcd"),
    "listen-client-urls": etcdUrl,
    "advertise-client-urls": etcdUrl,
    "listen-peer-urls": peerUrl,
    "initial-advertise-peer-urls": peerUrl,
    "initial-cluster": `default=${peerUrl}`,
    "unsafe-no-fsync": "true",
    "log-level": "error",
  };
  const running = new Map<Program, Running>();
  const launch = (program: Program, flags: Readonly<Record<string, string>>): void =>
    void running.set(program, new Running(programPath(program) ?? program, flags, folder));
  const agent = new Agent({ connect: { ca: caCertificate } });
  const call = async (method: string, path: string, body?: unknown): Promise<KubernetesAnswer> => {
    const answer = await request(`${url}${path}`, {
      dispatcher: agent,
      method: method as "GET",
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.body.text();
    return { status: answer.statusCode, value: text.startsWith("{") ? (JSON.parse(text) as Record<string, unknown>) : { text } };
  };
  const start = async (): Promise<void> => {
    launch("kube-apiserver", apiServer);
    await until(async () => {
      running.get("kube-apiserver")?.assertRunning();
      running.get("etcd")?.assertRunning();
      return (await call("GET", "/readyz").catch(() => undefined))?.status === 200;
    });
  };
  launch("etcd", etcd);
  await start();
  return {
    url,
    port,
    authorityFile,
    adminTokenFile: await file("token", token),
    kubeconfig,
    call,
    start,
    accountToken: async (namespace, account, audience, boundSecret) => {
      const spec = {
        ...(audience === undefined ? {} : { audiences: [audience] }),
        ...(boundSecret === undefined ? {} : { boundObjectRef: { apiVersion: "v1", kind: "Secret", ...boundSecret } }),
      };
      const { status, value } = await call("POST", `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, { spec });
      if (status !== 201) throw new Error(`no token for ${account}: ${JSON.stringify(value)}`);
      return (value["status"] as { readonly token: string }).token;
    },
    kill: async () => running.get("kube-apiserver")?.end(),
    startControllers: async () => {
      launch("kube-controller-manager", controllers);
      // The first thing that each namespace gets.
      await until(async () => {
        running.get("kube-controller-manager")?.assertRunning();
        return (await call("GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")).status === 200;
      });
    },
    stop: async () => {
      await agent.close();
      for (const program of ["kube-controller-manager", "kube-apiserver", "etcd"] as const) await running.get(program)?.end();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Waits for what a cluster does in its own time. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 50_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error("the cluster did not do it");
    await new Promise((done) => setTimeout(done, 100));
  }
}

class Running {
  readonly #child: ChildProcess;
  readonly #name: string;
  #log = "";

  constructor(path: string, flags: Readonly<Record<string, string>>, cwd: string) {
    this.#name = path;
    this.#child = spawn(
      path,
      Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
      { cwd, stdio: ["ignore", "ignore", "pipe"] },
    );
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#log = `${this.#log}${chunk.toString()}`.slice(-4000);
    });
  }

  assertRunning(): void {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error(`${this.#name} ended: ${this.#log}`);
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((done) => this.#child.once("exit", done));
    this.#child.kill("SIGKILL");
    await gone;
  }
}
