import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { helloProgram } from "./elf.ts";
import { makeImage, makeIndex, type FixtureImage } from "./image.ts";
import type { LayerEntry } from "./layer.ts";

export interface DemoImageOptions {
  /** A checkout after `npm ci`: its runtime packages and its build are what the image holds. */
  readonly projectFolder: string;
  /** Both unless told. */
  readonly architectures?: readonly ("amd64" | "arm64")[];
}

/** Runtime packages that go into the image: a few hundred real files. */
const packages = ["commander", "jose", "undici", "smol-toml", "@noble/ciphers"];
/** Folders of the build, where there is one. */
const buildFolders = ["dist", "bin", "src"];
const maxFiles = 4000;

/**
 * A real image from files that any machine with a checkout has: a base layer with users, links and a program, a layer
 * of packages, and a layer of this project. Its entry point needs no library, so a container runtime can start it.
 *
 * An index over the architectures; with one, that image alone.
 */
export async function makeDemoImage(options: DemoImageOptions): Promise<FixtureImage> {
  const modules = await treeEntries(join(options.projectFolder, "node_modules"), "app/node_modules", packages);
  const app = await treeEntries(options.projectFolder, "app", ["package.json", "LICENSE", ...buildFolders]);
  const architectures = options.architectures ?? ["amd64", "arm64"];
  const images: FixtureImage[] = [];
  for (const architecture of architectures) {
    images.push(
      await makeImage({
        layers: [{ entries: baseLayer(architecture) }, { entries: modules }, { entries: app }],
        platform: { os: "linux", architecture, ...(architecture === "arm64" ? { variant: "v8" } : {}) },
        run: { Entrypoint: ["/bin/hello"], Env: ["PATH=/bin"], WorkingDir: "/app", User: "1000:1000" },
        annotations: { "org.opencontainers.image.title": "ociseal demo" },
      }),
    );
  }
  const [first] = images;
  if (first === undefined) throw new TypeError("a demo image needs an architecture");
  return images.length === 1 ? first : makeIndex({ images });
}

/** An image of one small layer, for tests that need any image. */
export async function makeHelloImage(
  text = "hello from a sealed image\n",
  architecture: "amd64" | "arm64" = "amd64",
): Promise<FixtureImage> {
  return makeImage({
    layers: [{ entries: [{ kind: "file", path: "hello", mode: 0o755, content: helloProgram(architecture, text) }] }],
    platform: { os: "linux", architecture },
    run: { Entrypoint: ["/hello"] },
  });
}

/**
 * The machine's own static busybox as an image with a shell, as `busybox-static` of Debian installs it; `undefined`
 * where there is none. Not the same bytes on every machine.
 */
export async function makeBusyboxImage(
  architecture: "amd64" | "arm64" = "amd64",
  path = "/bin/busybox",
): Promise<FixtureImage | undefined> {
  const facts = await lstat(path).catch(() => undefined);
  if (facts?.isFile() !== true) return undefined;
  const applets = ["sh", "ls", "cat", "echo", "sha256sum", "tar", "sleep", "env", "id"];
  return makeImage({
    layers: [
      {
        entries: [
          ...folders(["bin", "etc", "proc", "sys", "dev"]),
          { kind: "directory", path: "tmp", mode: 0o1777 },
          { kind: "file", path: "bin/busybox", mode: 0o755, content: await readFile(path) },
          ...applets.map((name): LayerEntry => ({ kind: "symlink", path: `bin/${name}`, target: "busybox" })),
        ],
      },
    ],
    platform: { os: "linux", architecture },
    run: { Cmd: ["/bin/sh"], Env: ["PATH=/bin"] },
  });
}

function baseLayer(architecture: "amd64" | "arm64"): readonly LayerEntry[] {
  return [
    ...folders(["app", "bin", "dev", "etc", "home", "home/app", "proc", "sys", "usr", "var", "var/log"]),
    { kind: "directory", path: "tmp", mode: 0o1777 },
    { kind: "file", path: "bin/hello", mode: 0o755, content: helloProgram(architecture, "hello from a sealed image\n") },
    { kind: "hardlink", path: "bin/greet", target: "bin/hello", mode: 0o755 },
    { kind: "symlink", path: "usr/bin", target: "../bin" },
    { kind: "file", path: "etc/os-release", content: 'NAME="ociseal demo"\nID=ociseal-demo\nVERSION_ID=1\n' },
    { kind: "file", path: "etc/passwd", content: "root:x:0:0:root:/:/bin/hello\napp:x:1000:1000:app:/home/app:/bin/hello\n" },
    { kind: "file", path: "etc/group", content: "root:x:0:\napp:x:1000:\n" },
    {
      kind: "file",
      path: "etc/secret",
      mode: 0o600,
      uid: 1000,
      gid: 1000,
      content: "the password of the demo is correct horse battery staple\n",
    },
  ];
}

function folders(paths: readonly string[]): readonly LayerEntry[] {
  return paths.map((path): LayerEntry => ({ kind: "directory", path }));
}

/** Files, folders and links of a tree as entries, sorted, without times and owners. What is not there is left out. */
async function treeEntries(root: string, prefix: string, names: readonly string[]): Promise<readonly LayerEntry[]> {
  const entries: LayerEntry[] = [{ kind: "directory", path: prefix }];
  const seen = new Set<string>();
  for (const name of names) {
    const scope = name.startsWith("@") ? name.slice(0, name.indexOf("/")) : undefined;
    if (scope !== undefined && !seen.has(scope)) {
      seen.add(scope);
      entries.push({ kind: "directory", path: `${prefix}/${scope}` });
    }
    await addTree(entries, root, join(root, name), prefix);
  }
  return entries;
}

async function addTree(entries: LayerEntry[], root: string, path: string, prefix: string): Promise<void> {
  if (entries.length > maxFiles) return;
  const facts = await lstat(path).catch(() => undefined);
  if (facts === undefined) return;
  const name = `${prefix}/${relative(root, path).split(sep).join("/")}`;
  if (facts.isDirectory()) {
    entries.push({ kind: "directory", path: name });
    for (const child of (await readdir(path)).sort()) await addTree(entries, root, join(path, child), prefix);
  } else if (facts.isSymbolicLink()) {
    entries.push({ kind: "symlink", path: name, target: await readlink(path) });
  } else if (facts.isFile()) {
    entries.push({ kind: "file", path: name, mode: (facts.mode & 0o100) === 0 ? 0o644 : 0o755, content: await readFile(path) });
  }
}
