import { access, constants, readdir } from "node:fs/promises";
import { join } from "node:path";
import { detectTee } from "../../src/attestation/index.ts";
import { textOf } from "./files.ts";
import { codeOf, findingsOf, reasonOf, type Examination } from "./finding.ts";

/** Whether this machine is a confidential guest that can prove it, and may unpack what it pulls. */
export const examineGuest: Examination = async ({ options, root, asked }) => {
  const { list, add } = findingsOf("guest");
  const tee = await detectTee({ root });
  if (tee === undefined)
    add(
      asked ? "fail" : "not-checked",
      "TEE",
      "this machine shows no TDX or SEV-SNP guest device",
      "in a guest: boot a kernel with CONFIG_TDX_GUEST_DRIVER or CONFIG_SEV_GUEST and load tdx_guest or sev-guest; where images are only sealed none is needed",
    );
  else add("ok", "TEE", `this is a ${tee === "tdx" ? "TDX" : "SEV-SNP"} guest`);
  if (tee !== undefined || asked) await reports(add, options.tsmPath ?? join(root, "sys/kernel/config/tsm/report"));
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) add("ok", "ownership", "runs as root: owners and devices of images can be made");
  else if ((await textOf(join(root, "proc/sys/kernel/unprivileged_userns_clone")))?.trim() === "0")
    add("warn", "ownership", "not root, and user namespaces are off", "run pull as root, or with --rootless");
  else
    add(
      asked ? "warn" : "ok",
      "ownership",
      "not root: files will belong to the caller",
      "run pull as root to keep owners, or with --rootless to accept it",
    );
  await helpers(add, root);
  if ((await textOf(join(root, "proc/self/stat"))) === undefined)
    add(asked ? "fail" : "warn", "proc", "/proc is not mounted, and directories are held through it", "mount -t proc proc /proc");
  return list;
};

/** Where pull looks for the programs that do what Node.js cannot. */
const helperFolders = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "run/current-system/sw/bin"];
const helperPackages = { setfattr: "attr", mknod: "coreutils", mkfifo: "coreutils" };

async function helpers(add: ReturnType<typeof findingsOf>["add"], root: string): Promise<void> {
  const missing: (keyof typeof helperPackages)[] = [];
  for (const program of ["setfattr", "mknod", "mkfifo"] as const) {
    const found = await Promise.all(helperFolders.map((folder) => isThere(join(root, folder, program))));
    if (!found.includes(true)) missing.push(program);
  }
  if (missing.length === 0) add("ok", "helpers", "setfattr, mknod and mkfifo are there, for attributes and devices of images");
  else
    add(
      "warn",
      "helpers",
      `${missing.join(" and ")} cannot be found: images with extended attributes or devices cannot be unpacked whole`,
      `install ${[...new Set(missing.map((program) => helperPackages[program]))].join(" and ")}, or leave them out with --specials skip`,
    );
}

async function isThere(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function reports(add: ReturnType<typeof findingsOf>["add"], path: string): Promise<void> {
  try {
    await readdir(path);
    add("ok", "reports", `${path} is there`);
  } catch (error) {
    const fix =
      codeOf(error) === "EACCES"
        ? "run as root"
        : "mount -t configfs none /sys/kernel/config; the kernel must be 6.7 or newer with CONFIG_TSM_REPORTS";
    add("fail", "reports", codeOf(error) === "ENOENT" ? `${path} is not there` : reasonOf(error), fix);
  }
}
