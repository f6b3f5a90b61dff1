import { getCiphers } from "node:crypto";
import { readFile, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findingsOf, reasonOf, type Examination } from "./finding.ts";

const lowSpace = 1 << 30;

/** Source of the version rule: package.json, `engines`. */
function isSupported(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  if (major === 22) return minor > 22 || (minor === 22 && patch >= 2);
  return major > 24 || (major === 24 && minor >= 15);
}

export const examineRuntime: Examination = async ({ nodeVersion, shell, root }) => {
  const { list, add } = findingsOf("runtime");
  if (isSupported(nodeVersion)) add("ok", "Node.js", `version ${nodeVersion}`);
  else add("fail", "Node.js", `version ${nodeVersion} is not supported`, "install Node.js 22.22.2 or newer of line 22, or 24.15 or newer");
  const missing = ["aes-256-gcm", "aes-256-ctr"].filter((cipher) => !getCiphers().includes(cipher));
  if (missing.length === 0) add("ok", "ciphers", "AES-256-GCM and AES-256-CTR are there");
  else
    add(
      "fail",
      "ciphers",
      `this Node.js lacks ${missing.join(", ")}`,
      "use the builds of nodejs.org, or relax the OpenSSL policy of the machine",
    );
  const folder = shell.env["TMPDIR"] ?? tmpdir();
  try {
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    const text = `${folder} has ${Math.floor(free / 2 ** 20)} MiB free`;
    if (free >= lowSpace) add("ok", "temporary files", text);
    else add("warn", "temporary files", text, "free some space, or set TMPDIR to a folder on a larger disk");
  } catch (error) {
    add("fail", "temporary files", reasonOf(error), "set TMPDIR to a folder that exists");
  }
  const [verdict, message, fix] = await coreDumps(root);
  add(verdict, "core dumps", message, fix);
  return list;
};

type Verdict = readonly [verdict: "ok" | "warn" | "not-checked", message: string, fix?: string];

/** Whether a crash of this program could leave keys on a disk. Source: core(5), proc(5). */
async function coreDumps(root: string): Promise<Verdict> {
  const [filter, limits] = await Promise.all([textOf(join(root, "proc/self/coredump_filter")), textOf(join(root, "proc/self/limits"))]);
  if (filter === undefined || limits === undefined) return ["not-checked", "this system does not say whether it writes core dumps"];
  if (/^0+\s*$/.test(filter)) return ["ok", "would hold no memory of this program, and so no key"];
  if (/^Max core file size\s+0\s/m.test(limits)) return ["ok", "are off (limit 0)"];
  return [
    "warn",
    "may hold the memory of this program, and so keys",
    "ulimit -c 0, LimitCORE=0 in systemd, or --ulimit core=0 for containers",
  ];
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    // Not Linux, or /proc is hidden.
    return undefined;
  }
}
