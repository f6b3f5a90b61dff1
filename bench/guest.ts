/**
 * What the guest's side costs, whole processes beside their peers in turn, on disk in a folder of its own.
 *
 * `node bench/guest.ts unpack`: a Debian root of some 300 MB and 14,000 files, against umoci and GNU tar. Needs root.
 * `node bench/guest.ts pull [GIB…]`: a sealed image from a registry on loopback to a root file system, of 2 and 8 GiB unless
 * told, against skopeo and umoci. Needs root, and three times the size of the largest image in the temporary folder.
 *
 * `RUNS=N` takes N runs of each instead of three. It needs `make peers` and `make build`.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { writeSyntheticLayout } from "./images.ts";
import { interleave, type Job } from "./measure.ts";
import { rowOf, tableOf, type Row, type RowSettings } from "./rows.ts";

const root = resolve(import.meta.dirname, "..");
const ociseal = join(root, "bin/ociseal");
const peer = (name: string): string => join(root, ".peers/bin", name);
const runs = Number(process.env["RUNS"] ?? 3);
/** What the issue asks of the memory of a pull, whatever its size. */
const goalRssMib = 250;
const folder = mkdtempSync(join(tmpdir(), "ociseal-bench-"));
const at = (...parts: readonly string[]): string => join(folder, ...parts);
const rows: Row[] = [];

async function scenario(settings: RowSettings, ours: Job, theirs: Job): Promise<void> {
  const row = rowOf(settings, await interleave(ours, theirs, runs));
  rows.push(row);
  process.stdout.write(
    `${settings.name}: ${row.ours.wall.toFixed(2)} s, ${row.ours.rss.toFixed(0)} MiB, ratio ${row.ratio?.toFixed(2) ?? ""}\n`,
  );
}

function fresh(...names: readonly string[]): () => void {
  return () => {
    for (const name of names) rmSync(at(name), { recursive: true, force: true });
  };
}

/** The mirror that apt is set up with, as the script that fetches peers finds it. */
const mirrorScript = String.raw`cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null | sed -n -e 's/^URIs: *\([^ ]*\).*/\1/p' -e 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' | grep -E '/debian/?$' | head -n 1`;

async function unpacking(): Promise<void> {
  const tar = join(root, ".peers/images/debian-large.tar");
  if (!existsSync(tar)) {
    const mirror = execFileSync("sh", ["-c", mirrorScript], { encoding: "utf8" }).trim();
    execFileSync("sh", [join(root, "scripts/debian-root.sh"), tar, mirror, "python3,perl,git,vim"], { stdio: "inherit" });
  }
  const umoci = peer("umoci");
  for (const args of [
    ["init", "--layout", at("layout")],
    ["new", "--image", `${at("layout")}:app`],
    ["raw", "add-layer", "--image", `${at("layout")}:app`, tar],
  ])
    execFileSync(umoci, args, { stdio: "ignore" });
  // GNU tar reads the same compressed bytes.
  const layer = execFileSync("sh", ["-c", `ls -S ${at("layout")}/blobs/sha256/* | head -n 1`], { encoding: "utf8" }).trim();
  const files = execFileSync("sh", ["-c", `tar -tf ${tar} | wc -l`], { encoding: "utf8" }).trim();
  const ours: Job = { command: [ociseal, "unpack", "--quiet", `oci:${at("layout")}:app`, at("ours")], prepare: fresh("ours") };
  await scenario({ name: `unpack Debian, ${files} files`, peer: "umoci", goal: 0.7 }, ours, {
    command: [umoci, "raw", "unpack", "--image", `${at("layout")}:app`, at("theirs")],
    prepare: fresh("theirs"),
  });
  await scenario({ name: `unpack Debian, ${files} files`, peer: "GNU tar", goal: 1.5 }, ours, {
    command: ["/usr/bin/tar", "-C", at("theirs"), "-xzf", layer],
    prepare: () => {
      fresh("theirs")();
      mkdirSync(at("theirs"));
    },
  });
  fresh("ours", "theirs", "layout")();
}

async function pulling(gib: number): Promise<void> {
  const port = 5918;
  const config = at("registry.yml");
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${at("registry")}}}\nhttp: {addr: 127.0.0.1:${port}}\n`,
  );
  const registry = spawn(peer("docker-registry"), ["serve", config], { stdio: "ignore" });
  try {
    const up = async () =>
      await fetch(`http://127.0.0.1:${port}/v2/`)
        .then(({ ok }) => ok)
        .catch(() => false);
    for (let i = 0; i < 100 && !(await up()); i += 1) await wait(50);
    const key = at("key");
    if (!existsSync(`${key}.pub`)) execFileSync(ociseal, ["key", "generate", "ec", "--out", key], { stdio: "ignore" });
    writeSyntheticLayout(at("plain"), { layers: 4, mib: gib * 256 });
    const image = (name: string): string => `127.0.0.1:${port}/${name}:app`;
    // Each is pulled as its own tool seals it: the peers read no other cipher.
    execFileSync(ociseal, ["encrypt", "--quiet", "-r", `jwe:${key}.pub`, `oci:${at("plain")}:app`, `docker://${image("ours")}`]);
    execFileSync(ociseal, [
      "encrypt",
      "--quiet",
      "--profile",
      "ocicrypt",
      "-r",
      `jwe:${key}.pub`,
      `oci:${at("plain")}:app`,
      `docker://${image("theirs")}`,
    ]);
    fresh("plain")();
    const skopeo = `${peer("skopeo-1.22")} --insecure-policy copy -q --src-tls-verify=false --decryption-key ${key}.key docker://${image("theirs")} oci:${at("copied")}:app`;
    await scenario(
      { name: `pull ${gib} GiB to a root file system`, peer: "skopeo, umoci", goal: 0.5 },
      {
        command: [ociseal, "pull", "--quiet", "--insecure-accept-unsigned", "-k", `${key}.key`, `docker://${image("ours")}`, at("ours")],
        prepare: fresh("ours", "copied", "theirs"),
      },
      {
        command: ["/bin/sh", "-c", `${skopeo} && ${peer("umoci")} raw unpack --image ${at("copied")}:app ${at("theirs")}`],
        prepare: fresh("ours", "copied", "theirs"),
      },
    );
    const rss = rows.at(-1)?.ours.rss ?? 0;
    if (rss > goalRssMib) process.stdout.write(`  memory: ${rss.toFixed(0)} MiB, more than the goal of ${goalRssMib}\n`);
  } finally {
    registry.kill();
    fresh("registry", "ours", "copied", "theirs", "plain")();
  }
}

const [what = "", ...sizes] = process.argv.slice(2);
try {
  if (what === "unpack") await unpacking();
  else if (what === "pull") for (const gib of sizes.length === 0 ? [2, 8] : sizes.map(Number)) await pulling(gib);
  else throw new Error("bench/guest.ts unpack | pull [GIB…]");
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.stdout.write(`\n${tableOf(rows)}\n`);
mkdirSync(join(root, ".bench"), { recursive: true });
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
writeFileSync(join(root, `.bench/guest-${what}.json`), `${JSON.stringify({ version, node: process.version, runs, rows }, undefined, 2)}\n`);
