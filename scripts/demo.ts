/**
 * `make demo`: the main job on real input, with a registry and a Key Broker Service on loopback. Every step is a command
 * of the product, run as a user would run it. Everything lies under .demo and is made anew each time.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { createInterface } from "node:readline";
import { openLayout } from "../src/store/index.ts";
import { makeDemoImage, pushImage } from "../registry-fixtures/index.ts";
import { compareTrees } from "./compare-trees.ts";

const root = resolve(import.meta.dirname, "..");
const folder = join(root, ".demo");
const program = join(root, "bin/ociseal");
const servers: ChildProcess[] = [];
// Compiled code is kept in the project folder too: the demo writes nowhere else.
process.env["XDG_CACHE_HOME"] = join(root, "dist/.cache");

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function say(text = ""): void {
  process.stdout.write(`${text}\n`);
}

function title(text: string): void {
  say(`\n== ${text}`);
}

/** Runs a command in the demo's folder and shows it. */
function run(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  say(`$ ociseal ${args.join(" ")}`);
  return new Promise((done) => {
    execFile(program, [...args], { cwd: folder, env: { ...process.env, ...environment }, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
      done({ status, stdout, stderr });
    });
  });
}

/** A step that must work; shows the end of what it printed. */
async function step(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<string> {
  const { status, stdout, stderr } = await run(args, environment);
  if (status !== 0) throw new Error(`ociseal ${args[0]} ended with ${status}\n${stderr}${stdout}`);
  show(stdout);
  return stdout;
}

/** A step that must be refused, with this exit code. */
async function refused(expected: number, args: readonly string[]): Promise<void> {
  const { status, stdout, stderr } = await run(args);
  if (status !== expected) throw new Error(`ociseal ${args[0]} ended with ${status}, expected ${expected}\n${stderr}${stdout}`);
  show(stderr);
  say(`  (exit ${status})`);
}

function show(text: string): void {
  for (const line of text.trim().split("\n").slice(-16)) if (line.trim() !== "") say(`  ${line}`);
}

/** Starts a server and waits for its line of JSON. */
async function serve(args: readonly string[]): Promise<Readonly<Record<string, string>>> {
  say(`$ ociseal ${args.join(" ")} &`);
  const child = spawn(program, [...args], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  servers.push(child);
  const lines: string[] = [];
  child.stderr.on("data", (chunk: Buffer) => lines.push(chunk.toString()));
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line) as Record<string, string>;
  throw new Error(`ociseal ${args.join(" ")} did not start\n${lines.join("")}`);
}

async function demo(): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);

  title("1. A real image: this project and its packages, three layers, two platforms");
  const image = await makeDemoImage({ projectFolder: root });
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none", name: "oci:image" });
  await pushImage(layout, image, "app");
  await layout.close();
  await step(["inspect", "oci:image:app"]);

  title("2. A registry and a Key Broker Service, both on loopback");
  const registry = await serve(["registry", "serve", "--listen", "127.0.0.1:0", "--storage", "registry", "--quiet"]);
  const kbs = await serve(["kbs", "serve", "--dev", "--listen", "127.0.0.1:0", "--data", "kbs", "--quiet"]);
  const name = `${(registry["listening"] ?? "").replace("http://", "")}/app:sealed`;
  const kbsUrl = kbs["listening"] ?? "";
  const token = kbs["adminTokenFile"] ?? "";

  title("3. One command seals: encrypt every layer, register the key, sign, push");
  await step(["key", "generate", "cosign", "--out", "cosign"], { COSIGN_PASSWORD: "" });
  await step(
    [
      "encrypt",
      "oci:image:app",
      name,
      "-r",
      "kbs:///default/app-key",
      "--kbs",
      kbsUrl,
      "--kbs-admin-token",
      token,
      "--sign-key",
      "cosign.key",
      "--quiet",
    ],
    { COSIGN_PASSWORD: "" },
  );

  title("4. What anybody sees, and what an attacker with the whole registry has");
  await step(["inspect", name]);
  showCiphertext();
  await refused(7, ["decrypt", name, "oci:stolen", "-k", strayKey(), "--quiet"]);

  title("5. The operator says which guests may have the key; this one is not among them");
  const policy = { version: 1, tee: ["sample"], allowed_measurements: ["a-guest-that-was-audited"] };
  writeFileSync(join(folder, "release.json"), `${JSON.stringify(policy, undefined, 2)}\n`);
  say(`  release.json: ${JSON.stringify(policy)}`);
  const setPolicy = [
    "kbs",
    "policy",
    "set",
    "release.json",
    "--id",
    "app",
    "--resources",
    "default/app-key/*",
    "--kbs",
    kbsUrl,
    "--admin-token",
    token,
  ];
  await step(setPolicy);
  const pull = (target: string): readonly string[] => [
    "pull",
    name,
    target,
    "--verify-key",
    "cosign.pub",
    "--kbs",
    kbsUrl,
    "--tee",
    "sample",
    "--quiet",
  ];
  await refused(5, pull("rootfs-1"));
  mustNotExist("rootfs-1");
  writeFileSync(join(folder, "release.json"), `${JSON.stringify({ ...policy, allowed_measurements: ["abcde"] }, undefined, 2)}\n`);
  say("  now with the measurement of this guest (the sample TEE's is always abcde)");
  await step(setPolicy);

  title("6. The guest: check the signature, attest, get the key, decrypt, unpack");
  await step(pull("rootfs"));

  title("7. A pull that must fail: the image was tampered with");
  tamper();
  await refused(6, pull("rootfs-2"));
  mustNotExist("rootfs-2");

  title("8. The unpacked tree against the original");
  await step(["unpack", "oci:image:app", "original", "--quiet"]);
  const { files, differences } = compareTrees(join(folder, "original"), join(folder, "rootfs"));
  if (differences.length > 0) throw new Error(`the trees differ:\n${differences.slice(0, 20).join("\n")}`);
  say(`  ${files} files, directories and links: identical\n`);
  say("Done. The image left this machine only as ciphertext, and came back whole.");
}

function mustNotExist(target: string): void {
  if (existsSync(join(folder, target))) throw new Error("a refused pull left something behind");
  say(`  nothing was left behind: ${target} does not exist`);
}

/** The first bytes of the largest blob in the registry. */
function showCiphertext(): void {
  const [largest] = blobs();
  if (largest === undefined) throw new Error("the registry holds no blobs");
  const bytes = readFileSync(largest);
  say(`  ${relative(folder, largest).slice(0, 100)}`);
  say(`  ${bytes.subarray(0, 32).toString("hex")}… (${bytes.length} bytes, ${entropy(bytes).toFixed(3)} bits of entropy per byte)`);
}

function tamper(): void {
  for (const path of blobs()) {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  }
  say("  (one bit of each of the largest blobs in the registry's storage was flipped)");
}

/** The largest files of the registry's storage: layers. */
function blobs(): readonly string[] {
  const files = readdirSync(join(folder, "registry"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path, size: readFileSync(path).length }))
    .filter(({ size }) => size > 64 * 1024);
  return files.toSorted((a, b) => b.size - a.size).map(({ path }) => path);
}

function strayKey(): string {
  writeFileSync(join(folder, "stray.kek"), createHash("sha256").update("not the key").digest());
  return "kek:kbs:///default/app-key/other=stray.kek";
}

function entropy(bytes: Uint8Array): number {
  const counts = new Float64Array(256);
  for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1;
  return counts.reduce((sum, n) => (n === 0 ? sum : sum - (n / bytes.length) * Math.log2(n / bytes.length)), 0);
}

try {
  await demo();
} catch (error) {
  process.stderr.write(`\nerror: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  for (const server of servers) server.kill("SIGTERM");
}
