import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { GuestError, unpackImage, type UnpackRequest } from "../../src/guest/index.ts";
import { copyGraph, openLayout } from "../../src/store/index.ts";
import { missingPeers, peer } from "../peers.ts";
import { image, testFolder, type ImagePlan } from "./images.ts";
import { busyboxProgram, missing } from "./real-images.ts";
import { missingRuntime, startedBy } from "./runtimes.ts";
import { tar, type RawEntry } from "./tar-bytes.ts";
import { isRoot, keptOwnership } from "./trees.ts";

const folder = testFolder();

const passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken:x:abc:1::/:\nbig:x:4294967295:1::/:\n";
const group = "root:x:0:\napp:x:1001:\nextra:x:2000:other,app\nmore:x:2001:app\n";
const base: readonly RawEntry[] = [
  { name: "etc/", type: "5" },
  { name: "etc/passwd", data: passwd },
  { name: "etc/group", data: group },
];

async function bundle(
  config: Readonly<Record<string, unknown>>,
  entries: readonly RawEntry[] = base,
  request: Partial<UnpackRequest> = {},
) {
  const plan: ImagePlan = { layers: [tar(...entries)], config };
  const { store, root } = await image(plan);
  await unpackImage({ store, root, target: folder.path("out"), output: "bundle", ownership: keptOwnership, ...request });
  return JSON.parse(readFileSync(folder.path("out/config.json"), "utf8")) as RuntimeConfig;
}

interface RuntimeConfig {
  readonly process: {
    readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids?: readonly number[] };
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly capabilities: Readonly<Record<string, readonly string[]>>;
  };
  readonly mounts: readonly { readonly destination: string; readonly type: string; readonly options?: readonly string[] }[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly linux: { readonly namespaces: readonly { readonly type: string }[]; readonly uidMappings?: unknown };
}

async function refusal(work: Promise<unknown>): Promise<GuestError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof GuestError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("a bundle", () => {
  it("is private, with its root file system and configuration", async () => {
    await bundle({});
    expect(statSync(folder.path("out")).mode & 0o777).toBe(0o700);
    expect(statSync(folder.path("out/rootfs")).mode & 0o777).toBe(0o755);
  });

  it("starts what the image says, with PATH and HOME only where they are missing", async () => {
    const config = await bundle({
      config: { Entrypoint: ["/init", "a"], Cmd: ["b"], Env: ["X=1", "PATH=/p"], WorkingDir: "srv/../data", User: "app" },
    });
    expect(config.process).toMatchObject({ args: ["/init", "a", "b"], cwd: "/data", env: ["X=1", "PATH=/p", "HOME=/home/app"] });
    rmSync(folder.path("out"), { recursive: true });
    const empty = await bundle({});
    expect(empty.process).toMatchObject({ args: ["sh"], cwd: "/", env: [expect.stringMatching(/^PATH=/), "HOME=/root"] });
  });

  it.each<readonly [string, unknown]>([
    ["", { uid: 0, gid: 0, additionalGids: [0] }],
    ["root", { uid: 0, gid: 0, additionalGids: [0] }],
    ["app", { uid: 1000, gid: 1001, additionalGids: [1001, 2000, 2001] }],
    ["1000", { uid: 1000, gid: 1001, additionalGids: [1001, 2000, 2001] }],
    ["app:extra", { uid: 1000, gid: 2000, additionalGids: [2000] }],
    ["app:7", { uid: 1000, gid: 7, additionalGids: [7] }],
    ["4242", { uid: 4242, gid: 0, additionalGids: [0] }],
    ["4242:4243", { uid: 4242, gid: 4243, additionalGids: [4243] }],
    ["4294967294:4294967294", { uid: 4_294_967_294, gid: 4_294_967_294, additionalGids: [4_294_967_294] }],
  ])("resolves the user %j in the image's own files", async (user, expected) => {
    expect((await bundle({ config: { User: user } })).process.user).toEqual(expected);
  });

  it.each([
    "nobody",
    "app:nogroup",
    "4294967296",
    "4294967295",
    "99999999999999999999",
    "0:4294967296",
    "broken",
    "big",
    "-1",
    "0x0",
    "app:",
    ":",
    "app:1:2",
    "a\nb",
  ])("refuses the user %j instead of taking root", async (user) => {
    expect((await refusal(bundle({ config: { User: user } }))).code).toBe("ERR_GUEST_USER_UNKNOWN");
    expect(existsSync(folder.path("out"))).toBe(false);
  });

  it("follows a symlinked passwd inside the root only", async () => {
    const entries: readonly RawEntry[] = [
      { name: "etc/passwd", type: "2", link: "../../../../usr/lib/passwd" },
      { name: "usr/lib/passwd", data: "app:x:7:8::/h:\n" },
    ];
    expect((await bundle({ config: { User: "app" } }, entries)).process.user).toMatchObject({ uid: 7, gid: 8 });
  });

  it.each<readonly [string, RawEntry]>([
    ["a fifo", { name: "etc/passwd", type: "6" }],
    ["a directory", { name: "etc/passwd/", type: "5" }],
    ["a circle of links", { name: "etc/passwd", type: "2", link: "passwd" }],
  ])("neither hangs on nor trusts a passwd that is %s", async (_, entry) => {
    expect((await refusal(bundle({ config: { User: "app" } }, [entry]))).code).toBe("ERR_GUEST_ENTRY_REFUSED");
  });

  it("mounts volumes on clean destinations", async () => {
    const config = await bundle({ config: { Volumes: { "/data/../data/": {}, cache: {}, "/a/../../b": {} } } });
    const volumes = config.mounts.filter(({ type, options }) => type === "tmpfs" && options?.includes("relatime"));
    expect(volumes.map(({ destination }) => destination)).toEqual(["/b", "/cache", "/data"]);
  });

  it.each<readonly [string, Readonly<Record<string, unknown>>, readonly RawEntry[]]>([
    ["a working directory in /proc", { WorkingDir: "/proc/self/fd/7" }, []],
    ["a working directory that climbs into /proc", { WorkingDir: "/x/../proc/self/fd/7" }, []],
    ["a working directory that is a link into /proc", { WorkingDir: "/w" }, [{ name: "w", type: "2", link: "/proc/self/fd/7/" }]],
    ["a working directory below a link to /proc", { WorkingDir: "/p/self/cwd" }, [{ name: "p", type: "2", link: "proc" }]],
    ["a working directory in /sys", { WorkingDir: "/sys/fs" }, []],
    ["a volume over the root", { Volumes: { "/..": {} } }, []],
    ["a volume in /proc", { Volumes: { "/proc/sys": {} } }, []],
    ["a volume through a link into /proc", { Volumes: { "/v/x": {} } }, [{ name: "v", type: "2", link: "../proc" }]],
    ["a NUL in an argument", { Cmd: ["a\0b"] }, []],
    ["a NUL in the environment", { Env: ["A=\0"] }, []],
    ["a variable without a name", { Env: ["=x"] }, []],
  ])("refuses %s", async (_, config, entries) => {
    expect((await refusal(bundle({ config }, [...base, ...entries]))).code).toBe("ERR_GUEST_CONFIG_REFUSED");
    expect(existsSync(folder.path("out"))).toBe(false);
  });

  it("is made of Linux images alone", async () => {
    expect((await refusal(bundle({ os: "windows" }))).code).toBe("ERR_GUEST_CONFIG_REFUSED");
  });

  it("says what the image is in annotations, where labels win", async () => {
    const { annotations } = await bundle({
      author: "me",
      created: "2026-01-01T00:00:00Z",
      config: {
        StopSignal: "SIGINT",
        ExposedPorts: { "80/tcp": {}, "53/udp": {} },
        Labels: { mine: "1", "org.opencontainers.image.author": "label" },
      },
    });
    const prefix = "org.opencontainers.image.";
    expect(annotations).toEqual({
      mine: "1",
      [`${prefix}author`]: "label",
      [`${prefix}created`]: "2026-01-01T00:00:00Z",
      [`${prefix}os`]: "linux",
      [`${prefix}architecture`]: "amd64",
      [`${prefix}stopSignal`]: "SIGINT",
      [`${prefix}exposedPorts`]: "53/udp,80/tcp",
    });
  });

  it("gives no capability to a user that is not root, and none to inherit to anybody", async () => {
    const { capabilities } = (await bundle({ config: { User: "app" } })).process;
    expect(capabilities).toMatchObject({ effective: [], permitted: [] });
    expect(capabilities).not.toHaveProperty("inheritable");
    expect(capabilities).not.toHaveProperty("ambient");
  });

  it("gets a user namespace in rootless mode", async () => {
    const { linux, process: started, mounts } = await bundle({}, base, { ownership: { kind: "rootless" } });
    expect(linux.namespaces.map(({ type }) => type)).toContain("user");
    expect(linux.uidMappings).toEqual([{ containerID: 0, hostID: process.geteuid?.(), size: 1 }]);
    expect(started.user).not.toHaveProperty("additionalGids");
    expect(mounts.find(({ destination }) => destination === "/sys")?.type).toBe("bind");
  });

  it.skipIf(!isRoot || missingPeers("umoci"))("says the same as umoci's where both follow image-spec", async () => {
    const config = {
      config: {
        User: "app",
        Entrypoint: ["/bin/sh"],
        Cmd: ["-c"],
        WorkingDir: "/srv",
        Env: ["PATH=/bin", "TERM=xterm"],
        Labels: { a: "b" },
        ExposedPorts: { "80/tcp": {} },
        Volumes: { "/data": {} },
      },
    };
    const ours = await bundle(config);
    const { store, root } = await image({ layers: [tar(...base)], config });
    const layout = await openLayout({ path: folder.path("layout"), mode: "write" });
    await copyGraph({ from: store, to: layout, root, tags: ["it"] });
    execFileSync(peer("umoci") ?? "", ["unpack", "--image", `${folder.path("layout")}:it`, folder.path("umoci")], { stdio: "pipe" });
    const theirs = JSON.parse(readFileSync(folder.path("umoci/config.json"), "utf8")) as RuntimeConfig;
    const same = ({ process: { user, args, env, cwd }, annotations, mounts }: RuntimeConfig) => ({
      user: [user.uid, user.gid],
      args,
      env: env.toSorted(),
      cwd,
      // umoci 0.4.7 writes empty values, and a creation time, where the image has none; it also overrides HOME.
      annotations: Object.fromEntries(Object.entries(annotations).filter(([name, value]) => value !== "" && !name.endsWith(".created"))),
      volumes: mounts.filter(({ destination }) => destination === "/data"),
    });
    expect(same(ours)).toEqual(same(theirs));
  });
});

describe.each(["runc", "crun"] as const)("a bundle started by %s", (name) => {
  it.skipIf(missing("busybox-static", busyboxProgram()) || missingRuntime(name)).each(["preserve", "rootless"] as const)(
    "runs as it is, ownership %s",
    async (kind) => {
      const entries: readonly RawEntry[] = [
        ...base,
        { name: "bin/", type: "5" },
        { name: "bin/busybox", data: readFileSync(busyboxProgram() ?? ""), mode: 0o755 },
      ];
      const user = kind === "preserve" ? { User: "app" } : {};
      await bundle({ config: { Entrypoint: ["/bin/busybox", "sh", "-c"], Cmd: ["echo $(id -u):$(id -g) $PWD"], ...user } }, entries, {
        ownership: { kind },
      });
      const started = startedBy(name, folder.path("out"), folder.path("state"));
      expect(started).toMatchObject({ status: 0, stdout: kind === "preserve" ? "1000:1001 /\n" : "0:0 /\n", stderr: "" });
    },
  );
});
