import { posix } from "node:path";
import type { ExecutionConfig, ImageConfig } from "../oci/index.ts";
import { GuestError } from "./errors.ts";
import { resolveUser, type ContainerUser } from "./image-user.ts";
import type { Ownership } from "./ownership.ts";
import type { Tree } from "./tree.ts";

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** What containerd gives a container by default. Never inheritable or ambient (CVE-2022-24769). */
const capabilities = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_RAW",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

const maskedPaths = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
];
const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

interface Mount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options?: readonly string[];
}

export interface BundleRequest {
  readonly config: ImageConfig;
  /** The finished root file system, for what the image names in it. */
  readonly tree: Tree;
  readonly ownership: Ownership;
  /** Who runs the bundle, in rootless mode. */
  readonly caller: { readonly uid: number; readonly gid: number };
}

/**
 * The runtime configuration of an image, for runc, crun and their like; the root file system is `rootfs` beside it.
 *
 * Source: OCI image-spec, conversion.md; OCI runtime-spec 1.0.2. Refuses with `ERR_GUEST_CONFIG_REFUSED` a working directory
 * or volume under /proc, after links of the image are followed (CVE-2024-21626), with `ERR_GUEST_USER_UNKNOWN` a user that
 * the image does not know.
 */
export function runtimeConfig(request: BundleRequest): unknown {
  const { config, tree, ownership } = request;
  if (config.os !== "linux") throw refused(`the image is for ${JSON.stringify(config.os.slice(0, 40))}, a bundle needs linux`);
  const execution = config.config ?? {};
  const user = resolveUser(tree, execution.User ?? "");
  const rootless = ownership.kind === "rootless";
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: false,
      user: { uid: user.uid, gid: user.gid, ...(rootless ? {} : { additionalGids: user.additionalGids }) },
      args: argumentsOf(execution),
      env: environmentOf(execution, user),
      cwd: workingDirectory(execution, tree),
      // A process that is not root gets none; the bounding set is what a set-user-id program could reach.
      capabilities: {
        bounding: capabilities,
        effective: user.uid === 0 ? capabilities : [],
        permitted: user.uid === 0 ? capabilities : [],
      },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs" },
    hostname: "ociseal",
    mounts: [...baseMounts(rootless), ...volumeMounts(execution, tree)],
    annotations: annotationsOf(config, execution),
    linux: {
      ...(rootless
        ? {
            uidMappings: [{ containerID: 0, hostID: request.caller.uid, size: 1 }],
            gidMappings: [{ containerID: 0, hostID: request.caller.gid, size: 1 }],
          }
        : ownership.kind === "map"
          ? { uidMappings: mappings(ownership.uids), gidMappings: mappings(ownership.gids) }
          : {}),
      ...(rootless ? {} : { resources: { devices: [{ allow: false, access: "rwm" }] } }),
      namespaces: ["pid", "ipc", "uts", "mount", ...(rootless ? [] : ["network"]), ...(ownership.kind === "preserve" ? [] : ["user"])].map(
        (type) => ({ type }),
      ),
      maskedPaths,
      readonlyPaths,
    },
  };
}

function argumentsOf(execution: ExecutionConfig): readonly string[] {
  const args = [...(execution.Entrypoint ?? []), ...(execution.Cmd ?? [])];
  if (args.some((argument) => argument.includes("\0"))) throw refused("an argument has a NUL");
  // As umoci and `runc spec`: a bundle without arguments would not start at all.
  return args.length === 0 ? ["sh"] : args;
}

function environmentOf(execution: ExecutionConfig, user: ContainerUser): readonly string[] {
  const env = execution.Env ?? [];
  if (env.some((entry) => entry.includes("\0") || entry.startsWith("="))) throw refused("an environment variable has a NUL or no name");
  const has = (name: string) => env.some((entry) => entry === name || entry.startsWith(`${name}=`));
  return [
    ...(has("PATH") ? [] : [defaultPath]),
    ...env,
    ...(has("HOME") ? [] : [`HOME=${user.home === undefined || user.home === "" ? "/" : user.home}`]),
  ];
}

function workingDirectory(execution: ExecutionConfig, tree: Tree): string {
  return cleanPath(
    execution.WorkingDir === undefined || execution.WorkingDir === "" ? "/" : execution.WorkingDir,
    "working directory",
    tree,
  );
}

function volumeMounts(execution: ExecutionConfig, tree: Tree): readonly Mount[] {
  const destinations = (execution.Volumes ?? []).map((volume) => cleanPath(volume, "volume", tree));
  if (destinations.includes("/")) throw refused("a volume covers the root file system");
  return [...new Set(destinations)].toSorted().map((destination) => ({
    destination,
    type: "tmpfs",
    source: "none",
    options: ["rw", "nosuid", "nodev", "noexec", "relatime"],
  }));
}

/** An absolute path without `..`, refused where it leads into a file system that is the kernel's. */
function cleanPath(path: string, what: string, tree: Tree): string {
  if (path.includes("\0")) throw refused(`the ${what} has a NUL`);
  const clean = posix.resolve("/", path);
  const place = tree.locate(Buffer.from(clean).toString("latin1"));
  for (const forbidden of ["proc", "sys"]) {
    for (const candidate of [clean.slice(1), place]) {
      if (candidate === forbidden || candidate.startsWith(`${forbidden}/`)) {
        throw refused(`the ${what} ${JSON.stringify(path.slice(0, 200))} leads into /${forbidden}`);
      }
    }
  }
  return clean;
}

function annotationsOf(config: ImageConfig, execution: ExecutionConfig): Readonly<Record<string, string>> {
  const prefix = "org.opencontainers.image.";
  const derived: Record<string, string | undefined> = {
    os: config.os,
    architecture: config.architecture,
    variant: config.variant,
    "os.version": config["os.version"],
    author: config.author,
    created: config.created,
    stopSignal: execution.StopSignal,
    exposedPorts: execution.ExposedPorts === undefined ? undefined : [...execution.ExposedPorts].toSorted().join(","),
  };
  const entries = Object.entries(derived).flatMap(([name, value]) =>
    value === undefined || value === "" ? [] : [[prefix + name, value] as const],
  );
  // Source: conversion.md, "Annotation Fields": an explicit label wins over a derived value.
  return Object.fromEntries([...entries, ...Object.entries(execution.Labels ?? {})]);
}

function baseMounts(rootless: boolean): readonly Mount[] {
  const safe = ["nosuid", "noexec", "nodev"];
  return [
    { destination: "/proc", type: "proc", source: "proc", options: safe },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", ...(rootless ? [] : ["gid=5"])],
    },
    { destination: "/dev/shm", type: "tmpfs", source: "shm", options: [...safe, "mode=1777", "size=65536k"] },
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: safe },
    // Without a network namespace of its own a user namespace may not mount sysfs.
    rootless
      ? { destination: "/sys", type: "bind", source: "/sys", options: ["rbind", ...safe, "ro"] }
      : { destination: "/sys", type: "sysfs", source: "sysfs", options: [...safe, "ro"] },
    ...(rootless ? [] : [{ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: [...safe, "relatime", "ro"] }]),
  ];
}

function mappings(ranges: readonly { container: number; host: number; size: number }[]): unknown {
  return ranges.map(({ container, host, size }) => ({ containerID: container, hostID: host, size }));
}

function refused(why: string): GuestError {
  return new GuestError("ERR_GUEST_CONFIG_REFUSED", {
    message: `the image configuration is refused: ${why}`,
    hint: "the image was made to harm whoever runs it, or by mistake; do not run it, tell its publisher",
  });
}
