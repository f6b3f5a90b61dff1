import { execFileSync, spawn } from "node:child_process";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { connect as connectSocket } from "node:net";
import { basename, join } from "node:path";
import { openRegistry } from "../../../src/registry/index.ts";
import { serveRegistry } from "../../../src/registry-server/index.ts";
import { copyGraph, openLayout } from "../../../src/store/index.ts";
import { cleanEnvironment, ociseal, type Outcome } from "../../cli/run.ts";
import { peer } from "../../peers.ts";
import { layoutContents, runPeer, unpackedContents, type Bench, type MatrixPeer, type Task } from "./peer.ts";

export interface Containerd {
  readonly root: string;
  readonly socket: string;
  /** Where our decoder looks for keys. */
  readonly keys: string;
  close(): Promise<void>;
}

/** A containerd of its own: folders, socket and configuration, with our decoder as `doctor containerd` writes it. */
export async function startContainerd(bench: Bench): Promise<Containerd> {
  const home = join(bench.folder, "containerd");
  const [root, socket, keys] = [join(home, "root"), join(home, "sock"), join(home, "keys")];
  await mkdir(keys, { recursive: true });
  const printed = await ociseal(["doctor", "containerd", "--decryption-keys-path", keys, "--spool-dir", home, ...bench.kbs], { cwd: home });
  if (printed.status !== 0) throw new Error(printed.stderr);
  const config = join(home, "config.toml");
  const own = [
    "[grpc]",
    `  address = ${JSON.stringify(socket)}`,
    '[plugins."io.containerd.grpc.v1.cri".containerd]',
    '  snapshotter = "native"',
    '[plugins."io.containerd.grpc.v1.cri".cni]',
    `  conf_dir = ${JSON.stringify(join(home, "cni"))}`,
  ];
  const paths = [
    `root = ${JSON.stringify(root)}`,
    `state = ${JSON.stringify(join(home, "state"))}`,
    `disabled_plugins = ["io.containerd.internal.v1.opt"]`,
  ];
  await writeFile(config, [...paths, printed.stdout, ...own].join("\n"));
  const child = spawn(peer("containerd-1.6") ?? "containerd", ["-c", config], {
    stdio: ["ignore", "ignore", "pipe"],
    env: cleanEnvironment(),
  });
  const ended = new Promise<void>((done) => child.once("exit", () => done()));
  const log: string[] = [];
  await new Promise<void>((ready, fail) => {
    child.stderr.on("data", (chunk: Buffer) => {
      log.push(chunk.toString());
      if (log.join("").includes("containerd successfully booted")) ready();
    });
    void ended.then(() => fail(new Error(`containerd ended: ${log.join("").slice(-2000)}`)));
  });
  return {
    root,
    socket,
    keys,
    async close() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/** containerd itself, pulling over CRI as a kubelet does. Its `ctr` cannot encrypt. */
export function criPeer(containerd: () => Containerd): MatrixPeer {
  let count = 0;
  return {
    name: "containerd-1.6 with our decoder",
    programs: ["containerd-1.6", "ctr-1.6"],
    user: "root",
    encrypt: (task, recipients) =>
      runPeer("ctr-1.6", task, [
        "--address",
        containerd().socket,
        "images",
        "encrypt",
        ...recipients.flatMap((recipient) => ["--recipient", recipient]),
        "localhost/plain:it",
        "localhost/sealed:it",
      ]),
    async decrypt(task, keys) {
      const { keys: folder, root, socket } = containerd();
      await rm(folder, { recursive: true });
      await mkdir(folder);
      for (const key of keys) if (!key.startsWith("provider:")) await copyFile(key, join(folder, basename(key)));
      const server = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
      try {
        const [host, repository] = [server.url.replace("http://", ""), `app${(count += 1)}`];
        const [from, to] = [await openLayout({ path: task.source, mode: "read" }), openRegistry({ host, repository })];
        await to.tag(await copyInto(from, to), "it");
        await to.close();
        const outcome = await pullImage(socket, `${host}/${repository}:it`);
        return { ...outcome, contents: (file) => unpackedContents(join(root, "io.containerd.snapshotter.v1.native/snapshots"), "", file) };
      } finally {
        await server.close();
      }
    },
  };
}

async function copyInto(from: Awaited<ReturnType<typeof openLayout>>, to: ReturnType<typeof openRegistry>) {
  const root = await from.resolve("it");
  await copyGraph({ from, to, root });
  await from.close();
  return root;
}

/** One call of CRI: `PullImageRequest{image: ImageSpec{image}}`. Source: k8s.io/cri-api runtime/v1/api.proto. */
function pullImage(socket: string, name: string): Promise<Outcome> {
  const field = (bytes: Buffer): Buffer => Buffer.concat([Buffer.of(0x0a, bytes.length), bytes]);
  const message = field(field(Buffer.from(name)));
  const frame = Buffer.concat([Buffer.of(0, 0, 0, 0, message.length), message]);
  return new Promise((done, fail) => {
    const session = connectHttp2("http://localhost", { createConnection: () => connectSocket(socket) });
    session.once("error", fail);
    const call = session.request({
      ":method": "POST",
      ":path": "/runtime.v1.ImageService/PullImage",
      "content-type": "application/grpc",
      te: "trailers",
    });
    let said: IncomingHttpHeaders = {};
    const note = (headers: IncomingHttpHeaders): void => void (said = { ...said, ...headers });
    call.on("response", note).on("trailers", note).once("error", fail).resume();
    call.once("close", () => {
      session.close();
      done({
        status: Number(said["grpc-status"] ?? -1),
        stdout: "",
        stderr: decodeURIComponent([said["grpc-message"] ?? ""].flat().join(" ")),
      });
    });
    call.end(frame);
  });
}

/** imgcrypt's own client. It works on images in containerd's store, which come and go as archives. */
export function imgcryptPeer(containerd: () => Containerd): MatrixPeer {
  const convert = async (task: Task, command: "encrypt" | "decrypt", args: readonly string[]): Promise<Outcome> => {
    const name = basename(task.target);
    const [source, result] = [`${task.target}.in.tar`, `${task.target}.out.tar`];
    execFileSync("tar", ["-C", task.source, "-cf", source, "."]);
    const [from, to] = [`localhost/${name}:it`, `localhost/${name}-done:it`];
    const steps = [
      ["import", "--no-unpack", "--base-name", `localhost/${name}`, source],
      [command, ...args, from, to],
      ["export", "--skip-manifest-json", result, to],
    ];
    for (const step of steps) {
      const outcome = await runPeer("ctr-imgcrypt", task, ["--address", containerd().socket, "--namespace", name, "images", ...step]);
      if (outcome.status !== 0) return outcome;
    }
    await mkdir(task.target);
    execFileSync("tar", ["-C", task.target, "-xf", result]);
    const index = JSON.parse(await readFile(join(task.target, "index.json"), "utf8")) as { manifests: unknown[] };
    return { status: index.manifests.length === 1 ? 0 : 1, stdout: "", stderr: "" };
  };
  return {
    name: "imgcrypt",
    programs: ["containerd-1.6", "ctr-imgcrypt"],
    user: "root",
    encrypt: (task, recipients) =>
      convert(
        task,
        "encrypt",
        recipients.flatMap((recipient) => ["--recipient", recipient]),
      ),
    async decrypt(task, keys) {
      const outcome = await convert(
        task,
        "decrypt",
        keys.flatMap((key) => ["--key", key]),
      );
      return { ...outcome, contents: (file) => layoutContents(task.target, file) };
    },
  };
}
