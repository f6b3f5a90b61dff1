/**
 * `make bench [BENCH="name …"]`: whole processes, ours and the peer's in turn, medians of the ratios. Results go to
 * .bench/results.json and docs/bench.svg. QUICK=1 takes one run and 128 MiB. The Key Broker Service has scenarios of its
 * own: kbs, kbs-tdx, kbs-latency, kbs-memory, kbs-keys.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { chart } from "./chart.ts";
import { writeSyntheticLayout } from "./images.ts";
import { benchKbs } from "./kbs.ts";
import { benchKeys } from "./kbs-keys.ts";
import { interleave, type Job } from "./measure.ts";
import { lineOf, rowOf, tableOf, type Measure, type Row, type RowSettings } from "./rows.ts";

const root = resolve(import.meta.dirname, "..");
const folder = existsSync("/dev/shm") ? "/dev/shm/ociseal-bench" : join(root, ".bench/work");
const ociseal = join(root, "bin/ociseal");
const peers = join(root, ".peers/bin");
const skopeo = join(peers, "skopeo-1.22");
const quick = process.env["QUICK"] === "1";
const runs = quick ? 1 : 3;
const big = quick ? 128 : 1024;
const wanted = process.argv.slice(2);
const rows: Row[] = [];
const measures: Measure[] = [];

if (!existsSync(skopeo)) process.stderr.write("SKIPPED: comparisons with skopeo 1.22: not installed (make peers)\n");

async function scenario(settings: RowSettings, ours: Job, peer: Job | undefined): Promise<void> {
  if (!isWanted(settings.name)) return;
  const other = peer !== undefined && existsSync(peer.command[0] ?? "") ? peer : undefined;
  const row = rowOf(settings, await interleave(ours, other, runs));
  rows.push(row);
  process.stdout.write(
    `${settings.name}: ${row.ours.wall.toFixed(2)} s${row.ratio === undefined ? "" : `, ratio ${row.ratio.toFixed(2)}`}\n`,
  );
}

function isWanted(name: string): boolean {
  return wanted.length === 0 || wanted.some((word) => name.includes(word));
}

/** What has no peer: a failure ends that scenario aloud, not the others. */
async function service(name: string, run: () => Promise<readonly Measure[]>): Promise<void> {
  try {
    for (const measure of await run()) {
      measures.push(measure);
      process.stdout.write(`${lineOf(measure)}\n`);
    }
  } catch (error) {
    process.exitCode = 1;
    process.stderr.write(`FAILED: ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

function fresh(...names: readonly string[]): () => void {
  return () => {
    for (const name of names) rmSync(join(folder, name), { recursive: true, force: true });
  };
}

const at = (name: string): string => `oci:${join(folder, name)}:app`;
const key = join(folder, "key");
const skopeoCopy = (...args: readonly string[]): readonly string[] => [skopeo, "--insecure-policy", "copy", "-q", ...args];

/** Encrypt and decrypt from folder to folder, with both ciphers. */
async function layouts(
  name: string,
  source: string,
  goals: { readonly encrypt: number; readonly decrypt: number },
  cipher: string,
): Promise<void> {
  const [ours, theirs] = [`${source}-${cipher}`, `${source}-skopeo`];
  await scenario(
    { name: `encrypt ${name}, ${cipher}`, peer: "skopeo 1.22", goal: goals.encrypt },
    { command: [ociseal, "encrypt", "--quiet", "--cipher", cipher, "-r", `jwe:${key}.pub`, at(source), at(ours)], prepare: fresh(ours) },
    { command: skopeoCopy("--encryption-key", `jwe:${key}.pub`, at(source), at(theirs)), prepare: fresh(theirs) },
  );
  await scenario(
    { name: `decrypt ${name}, ${cipher}`, peer: "skopeo 1.22", goal: goals.decrypt },
    { command: [ociseal, "decrypt", "--quiet", "-k", `${key}.key`, at(ours), at(`${ours}-open`)], prepare: fresh(`${ours}-open`) },
    { command: skopeoCopy("--decryption-key", `${key}.key`, at(theirs), at(`${theirs}-open`)), prepare: fresh(`${theirs}-open`) },
  );
  fresh(ours, theirs, `${ours}-open`, `${theirs}-open`)();
}

/** What the processor itself needs for the same bytes: one AES-256-GCM pass and two of SHA-256, by OpenSSL. */
async function physicalLimit(): Promise<void> {
  const script = `const c=require("node:crypto"),b=Buffer.alloc(1<<20),k=c.createSecretKey(Buffer.alloc(32));const h=c.createHash("sha256"),g=c.createHash("sha256"),e=c.createCipheriv("aes-256-gcm",k,Buffer.alloc(12));for(let i=0;i<${big};i++){h.update(b);g.update(e.update(b))}e.final();h.digest();g.digest()`;
  await scenario(
    { name: `bare cryptography for ${big} MiB, one core`, peer: undefined },
    { command: [process.execPath, "-e", script] },
    undefined,
  );
}

async function throughRegistry(): Promise<void> {
  const program = join(peers, "docker-registry");
  if (!existsSync(program)) return;
  const port = 5917;
  const config = join(folder, "registry.yml");
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${folder}/registry}, delete: {enabled: true}}\nhttp: {addr: 127.0.0.1:${port}}\n`,
  );
  const registry = spawn(program, ["serve", config], { stdio: "ignore" });
  try {
    for (
      let i = 0;
      i < 100 &&
      !(await fetch(`http://127.0.0.1:${port}/v2/`).then(
        (r) => r.ok,
        () => false,
      ));
      i += 1
    )
      await wait(50);
    const image = (name: string): string => `docker://127.0.0.1:${port}/${name}:app`;
    await scenario(
      { name: `push encrypted, ${big} MiB, docker-registry`, peer: "skopeo 1.22", goal: 0.5 },
      { command: [ociseal, "encrypt", "--quiet", "-r", `jwe:${key}.pub`, at("one"), image("ours")] },
      { command: skopeoCopy("--dest-tls-verify=false", "--encryption-key", `jwe:${key}.pub`, at("one"), image("theirs")) },
    );
    await scenario(
      { name: `pull decrypting, ${big} MiB, docker-registry`, peer: "skopeo 1.22", goal: 0.5 },
      { command: [ociseal, "decrypt", "--quiet", "-k", `${key}.key`, image("ours"), at("pulled")], prepare: fresh("pulled") },
      {
        command: skopeoCopy("--src-tls-verify=false", "--decryption-key", `${key}.key`, image("theirs"), at("pulled-theirs")),
        prepare: fresh("pulled-theirs"),
      },
    );
    await scenario(
      { name: `1 MiB of ${big} MiB, encrypted, docker-registry`, peer: undefined },
      { command: [ociseal, "cat", image("ours"), "-k", `${key}.key`, "--range", "50000000-51048575"] },
      undefined,
    );
    execFileSync(ociseal, ["key", "generate", "ec", "--out", join(folder, "second")], { stdio: "ignore" });
    await scenario(
      { name: `rewrap, ${big} MiB, docker-registry`, peer: undefined },
      { command: [ociseal, "rewrap", "--quiet", image("ours"), "-k", `${key}.key`, "--add", `jwe:${join(folder, "second")}.pub`] },
      undefined,
    );
    await verifying(image("small"));
  } finally {
    registry.kill();
  }
}

/** A small image signed by a key: nearly all of it is start-up, so an empty Node.js beside it says what is ours. */
async function verifying(image: string): Promise<void> {
  const signer = join(folder, "cosign");
  const env = { COSIGN_PASSWORD: "" };
  writeSyntheticLayout(join(folder, "small"), { layers: 1, mib: 1 });
  execFileSync(ociseal, ["key", "generate", "cosign", "--out", signer], { stdio: "ignore", env: { ...process.env, ...env } });
  execFileSync(ociseal, ["copy", at("small"), image], { stdio: "ignore" });
  execFileSync(ociseal, ["sign", "--key", `${signer}.key`, image], { stdio: "ignore", env: { ...process.env, ...env } });
  await scenario(
    { name: "verify a signature, docker-registry", peer: "node -e 0" },
    { command: [ociseal, "verify", "--key", `${signer}.pub`, image] },
    { command: [process.execPath, "-e", "0"] },
  );
  fresh("small")();
}

/** A root of many small files: this project's own packages, several times over. */
async function unpacking(): Promise<void> {
  const umoci = join(peers, "umoci");
  if (process.getuid?.() !== 0 || !existsSync(umoci)) {
    process.stderr.write("SKIPPED: unpacking against umoci and tar: needs root and umoci\n");
    return;
  }
  const source = join(folder, "tree");
  mkdirSync(source, { recursive: true });
  for (let i = 0; i < 2; i += 1) execFileSync("cp", ["-r", join(root, "node_modules"), join(source, `copy-${i}`)]);
  const tar = join(folder, "tree.tar.gz");
  execFileSync("tar", ["-C", source, "-cf", join(folder, "tree.tar"), "."]);
  execFileSync("tar", ["-C", source, "-czf", tar, "."]);
  const layout = join(folder, "files");
  execFileSync(umoci, ["init", "--layout", layout]);
  execFileSync(umoci, ["new", "--image", `${layout}:app`]);
  execFileSync(umoci, ["raw", "add-layer", "--image", `${layout}:app`, join(folder, "tree.tar")], { stdio: "ignore", env: process.env });
  const files = execFileSync("sh", ["-c", `find ${source} | wc -l`])
    .toString()
    .trim();
  await scenario(
    { name: `unpack ${files} files`, peer: "umoci", goal: 0.7 },
    { command: [ociseal, "unpack", "--quiet", at("files"), join(folder, "u1")], prepare: fresh("u1") },
    { command: [umoci, "raw", "unpack", "--image", `${layout}:app`, join(folder, "u2")], prepare: fresh("u2") },
  );
  await scenario(
    { name: `unpack ${files} files, GNU tar`, peer: "GNU tar", goal: 1.5 },
    { command: [ociseal, "unpack", "--quiet", at("files"), join(folder, "u1")], prepare: fresh("u1") },
    {
      command: ["/usr/bin/tar", "-C", join(folder, "u3"), "-xzf", tar],
      prepare: () => {
        fresh("u3")();
        mkdirSync(join(folder, "u3"));
      },
    },
  );
}

/** Everything that is done with images, in the order in which they are made and removed. */
async function images(): Promise<void> {
  execFileSync(ociseal, ["key", "generate", "ec", "--out", key], { stdio: "ignore" });
  await physicalLimit();
  await scenario(
    { name: "ociseal --version", peer: "node -e 0" },
    { command: [ociseal, "--version"] },
    { command: [process.execPath, "-e", "0"] },
  );
  writeSyntheticLayout(join(folder, "one"), { layers: 1, mib: big });
  await scenario(
    { name: "inspect a layout", peer: "node -e 0" },
    { command: [ociseal, "inspect", at("one")] },
    { command: [process.execPath, "-e", "0"] },
  );
  await layouts(`one layer of ${big} MiB`, "one", { encrypt: 0.33, decrypt: 0.25 }, "aes-256-gcm");
  await layouts(`one layer of ${big} MiB`, "one", { encrypt: 0.5, decrypt: 0.4 }, "aes-256-ctr-hmac-sha256");
  await throughRegistry();
  fresh("one", "registry", "pulled", "pulled-theirs")();
  writeSyntheticLayout(join(folder, "eight"), { layers: 8, mib: big / 8 });
  await layouts(`8 layers of ${big / 8} MiB`, "eight", { encrypt: 0.4, decrypt: 0.4 }, "aes-256-gcm");
  fresh("eight")();
  writeSyntheticLayout(join(folder, "many"), { layers: 200, mib: 1 });
  await layouts("200 layers of 1 MiB", "many", { encrypt: 0.5, decrypt: 0.5 }, "aes-256-gcm");
  fresh("many")();
  await unpacking();
}

async function keyBroker(): Promise<void> {
  await service("kbs", () => benchKbs(isWanted, quick ? "quick" : "full"));
  if (!isWanted("kbs-keys")) return;
  for (const store of ["directory", "PostgreSQL"] as const)
    await service(`kbs-keys, ${store}`, () => benchKeys(store, quick ? 10_000 : 100_000));
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
mkdirSync(join(root, ".bench"), { recursive: true });
try {
  // Making the images takes longer than the scenarios of the service.
  if (wanted.length === 0 || wanted.some((word) => !word.startsWith("kbs"))) await images();
  await keyBroker();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (rows.length > 0) process.stdout.write(`\n${tableOf(rows)}\n`);
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
writeFileSync(
  join(root, ".bench/results.json"),
  `${JSON.stringify({ version, node: process.version, runs, rows, measures }, undefined, 2)}\n`,
);
if (wanted.length === 0 && !quick) writeFileSync(join(root, "docs/bench.svg"), chart(rows));
