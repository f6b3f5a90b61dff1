/**
 * `node bench/registries.ts [large] [small]`: copying to and from registries, ours and docker-registry, beside skopeo 1.22.
 * One blob of MIB (4096 unless told), and 2000 layers of 4 KiB. Peak memory of both sides, and connections at once. Needs
 * three times the blob in the folder for temporary files.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { writeSyntheticLayout } from "./images.ts";
import { highWater, measure, median, type Sample } from "./measure.ts";

const root = resolve(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "ociseal-bench-"));
const ociseal = join(root, "bin/ociseal");
const skopeo = join(root, ".peers/bin/skopeo-1.22");
const dockerRegistry = join(root, ".peers/bin/docker-registry");
const mib = Number(process.env["MIB"] ?? 4096);
const rounds = Number(process.env["ROUNDS"] ?? 1);
const wanted = process.argv.slice(2);
const clients = ["ociseal", "skopeo 1.22"] as const;
const servers = ["registry serve", "docker-registry"] as const;
type Client = (typeof clients)[number];

interface Line extends Sample {
  readonly registryRss: number;
  readonly connections: number;
}

function commandOf(client: Client, from: string, to: string): readonly string[] {
  if (client === "ociseal") return [ociseal, "copy", "--quiet", from, to];
  return [skopeo, "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", from, to];
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

async function start(server: (typeof servers)[number], port: number): Promise<ChildProcess> {
  const storage = join(folder, "storage");
  const config = join(folder, "registry.yml");
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${storage}}}\nhttp: {addr: 127.0.0.1:${port}}\n`,
  );
  const child =
    server === "docker-registry"
      ? spawn(dockerRegistry, ["serve", config], { stdio: "ignore" })
      : spawn(process.execPath, [`${ociseal}.js`, "registry", "serve", "--quiet", "--listen", `127.0.0.1:${port}`, "--storage", storage], {
          stdio: "ignore",
        });
  const isUp = (): Promise<boolean> =>
    fetch(`http://127.0.0.1:${port}/v2/`).then(
      ({ ok }) => ok,
      () => false,
    );
  for (let i = 0; i < 200 && !(await isUp()); i += 1) await wait(50);
  return child;
}

/** Established connections to a port, as the kernel lists them. Source: proc(5), /proc/net/tcp. */
function connectionsTo(port: number): number {
  const remote = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8").trim().split("\n").slice(1);
  return rows.filter((row) => {
    const [, , to = "", state] = row.trim().split(/\s+/);
    return to.endsWith(remote) && state === "01";
  }).length;
}

/** Push to an empty registry, then pull, each a process of its own. What an earlier run left for the disk is written first. */
async function round(client: Client, server: (typeof servers)[number], layout: string): Promise<readonly [Line, Line]> {
  const port = await freePort();
  const registry = await start(server, port);
  const image = `docker://127.0.0.1:${port}/app:1`;
  const run = async (from: string, to: string): Promise<Line> => {
    execFileSync("sync");
    let connections = 0;
    const watch = setInterval(() => (connections = Math.max(connections, connectionsTo(port))), 20);
    const sample = await measure({ command: commandOf(client, from, to) });
    clearInterval(watch);
    return { ...sample, connections, registryRss: highWater(registry.pid ?? 0) / 1024 };
  };
  try {
    return [await run(`oci:${layout}:app`, image), await run(image, `oci:${join(folder, "pulled")}:app`)];
  } finally {
    registry.kill();
    await new Promise((done) => registry.once("exit", done));
    for (const name of ["storage", "pulled"]) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

async function scenario(name: string, spec: { readonly layers: number; readonly mib: number }): Promise<void> {
  const layout = join(folder, "image");
  mkdirSync(layout);
  writeSyntheticLayout(layout, spec);
  for (const server of servers) {
    if (server === "docker-registry" && !existsSync(dockerRegistry)) continue;
    const lines = new Map<Client, (readonly [Line, Line])[]>();
    for (let i = 0; i < rounds; i += 1) {
      for (const client of clients) {
        if (client !== "ociseal" && !existsSync(skopeo)) continue;
        lines.set(client, [...(lines.get(client) ?? []), await round(client, server, layout)]);
      }
    }
    for (const [i, way] of ["push", "pull"].entries()) {
      for (const [client, all] of lines) {
        const of = (value: (line: Line) => number): readonly number[] => all.map((pair) => value(pair[i] ?? pair[0]));
        const wall = median(of((line) => line.wall)).toFixed(1);
        const rss = Math.max(...of((line) => line.rss)).toFixed(0);
        const registryRss = Math.max(...of((line) => line.registryRss)).toFixed(0);
        const connections = Math.max(...of((line) => line.connections));
        process.stdout.write(
          `${name}, ${way}, ${server}, ${client}: ${wall} s, ${rss} MiB; the registry ${registryRss} MiB; ${connections} connections\n`,
        );
      }
    }
  }
  rmSync(layout, { recursive: true });
}

try {
  if (wanted.length === 0 || wanted.includes("large")) await scenario(`one blob of ${mib} MiB`, { layers: 1, mib });
  if (wanted.length === 0 || wanted.includes("small")) await scenario("2000 layers of 4 KiB", { layers: 2000, mib: 4 / 1024 });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
