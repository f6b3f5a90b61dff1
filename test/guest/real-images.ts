import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { copyGraph, openLayout } from "../../src/store/index.ts";
import { peer } from "../peers.ts";
import type { TestImage } from "./images.ts";
import { pax, tar, type RawEntry } from "./tar-bytes.ts";

const peers = resolve(import.meta.dirname, "../../.peers");

/** A program without libraries, of Debian's busybox-static. */
export function busyboxProgram(): string | undefined {
  return [join(peers, "bookworm/bin/busybox"), "/usr/bin/busybox", "/bin/busybox"].find((path) => existsSync(path));
}

/** A Debian root of debootstrap's minbase variant, as a tar. `make peers` makes it, as root. */
export function debianRoot(): string | undefined {
  const path = join(peers, "images/debian.tar");
  return existsSync(path) ? path : undefined;
}

/** Says aloud what is missing for tests with real images; throws where `CI` is set. */
export function missing(what: string, found: unknown): boolean {
  if (found !== undefined) return false;
  const message = `SKIPPED: ${what} is missing (make peers, as root on Debian)`;
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

/** A folder as a layer, written by GNU tar. */
export function layerOf(folder: string): Buffer {
  return execFileSync(
    "tar",
    [
      "-C",
      folder,
      "--format=pax",
      "--numeric-owner",
      "--owner=0",
      "--group=0",
      "--sort=name",
      "--xattrs",
      "--xattrs-include=*",
      "-cf",
      "-",
      ".",
    ],
    { maxBuffer: 1 << 30 },
  );
}

/** busybox with its commands as hard links, and a second layer that takes some away again. */
export function busyboxLayers(program: string, folder: string): readonly Buffer[] {
  mkdirSync(join(folder, "bin"), { recursive: true });
  mkdirSync(join(folder, "etc"));
  copyFileSync(program, join(folder, "bin/busybox"));
  chmodSync(join(folder, "bin/busybox"), 0o755);
  const applets = execFileSync(program, ["--list"], { encoding: "utf8" }).trim().split("\n");
  for (const name of applets) if (name !== "busybox") linkSync(join(folder, "bin/busybox"), join(folder, "bin", name));
  symlinkSync("bin", join(folder, "sbin"));
  writeFileSync(join(folder, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n");
  return [layerOf(folder), tar({ name: "bin/.wh.vi" }, { name: "sbin/.wh.ping" }, { name: "etc/motd", data: "busybox\n" })];
}

const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");

/** What a build does to a base: removes documentation, replaces files and directories, gives a program a capability. */
export function changesOfDebian(): Buffer {
  const parts: readonly (RawEntry | Buffer)[] = [
    { name: "usr/share/.wh.doc" },
    { name: "usr/share/locale/.wh..wh..opq" },
    { name: "usr/share/locale/", type: "5", mtime: 1_600_000_000 },
    { name: "usr/share/locale/locale.alias", data: "none\n" },
    { name: "etc/motd", data: "changed\n", mode: 0o600, uid: 5, gid: 6 },
    { name: "bin/also-bash", type: "1", link: "bin/bash" },
    { name: "var/run/app/", type: "5", mode: 0o2775, gid: 50 },
    { name: "var/mail", data: "a file where a directory was" },
    pax([["SCHILY.xattr.security.capability", capability]]),
    { name: "usr/bin/able", data: "#!/bin/sh\n", mode: 0o755, uid: 7 },
    pax([["mtime", "1700000000.123456789"]]),
    { name: "srv/precise", data: "p" },
    { name: "srv/pipe", type: "6" },
    { name: "srv/null", type: "3", device: [1, 3], mode: 0o666 },
  ];
  return tar(...parts);
}

/** Node.js, the libraries that it needs, and an application of thousands of small files. */
export function nodeLayers(folder: string): readonly Buffer[] {
  const [base, app] = [join(folder, "base"), join(folder, "app-layer")];
  mkdirSync(join(base, "usr/bin"), { recursive: true });
  const node = process.execPath;
  copyFileSync(node, join(base, "usr/bin/node"));
  const libraries = [...execFileSync("ldd", [node], { encoding: "utf8" }).matchAll(/(\/\S+)/g)].map(([path]) => path);
  for (const path of libraries) {
    mkdirSync(join(base, dirname(path)), { recursive: true });
    copyFileSync(path, join(base, path));
  }
  mkdirSync(join(app, "app"), { recursive: true });
  // Thousands of files that are at hand: this project's own packages.
  const modules = resolve(import.meta.dirname, "../../node_modules");
  for (const name of ["jose", "undici", "commander", "fast-check", "openpgp", "@sigstore", "yaml"]) {
    if (existsSync(join(modules, name))) execFileSync("cp", ["-rL", join(modules, name), join(app, "app", basename(name))]);
  }
  writeFileSync(
    join(app, "app/main.mjs"),
    `import { readdirSync } from "node:fs"; import { parse } from "./yaml/dist/index.js"; console.log(parse("started: true").started, readdirSync("/app", { recursive: true }).length);`,
  );
  return [layerOf(base), layerOf(app)];
}

/** The image as an OCI layout, tagged `it`. */
export async function layoutOf({ store, root }: TestImage, path: string): Promise<string> {
  const layout = await openLayout({ path, mode: "write", durability: "none" });
  await copyGraph({ from: store, to: layout, root, tags: ["it"] });
  await layout.close();
  return path;
}

/** The tree that umoci makes. */
export function umociTree(layout: string, folder: string): string {
  execFileSync(peer("umoci") ?? "", ["raw", "unpack", "--image", `${layout}:it`, folder], { stdio: "pipe" });
  return folder;
}

/** The tree that podman shows of an image in a storage of its own, with the driver that stacks nothing. */
export function podmanTree(layout: string, folder: string): string {
  mkdirSync(folder);
  const policy = join(folder, "policy.json");
  writeFileSync(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  const storage = [
    "--root",
    join(folder, "root"),
    "--runroot",
    join(folder, "run"),
    "--tmpdir",
    join(folder, "tmp"),
    "--storage-driver",
    "vfs",
  ];
  const podman = (...args: readonly string[]) =>
    // It takes the path for a name, which has no capitals: a relative one.
    execFileSync(peer("podman-4.3") ?? "", [...storage, ...args], {
      cwd: dirname(layout),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  const id = podman("pull", "-q", "--signature-policy", policy, `oci:${basename(layout)}:it`);
  return podman("image", "mount", id);
}
