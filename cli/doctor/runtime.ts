import { getCiphers } from "node:crypto";
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { findingsOf, reasonOf, type Examination } from "./finding.ts";

const lowSpace = 1 << 30;

/** Source of the version rule: package.json, `engines`. */
function isSupported(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  if (major === 22) return minor > 22 || (minor === 22 && patch >= 2);
  return major > 24 || (major === 24 && minor >= 15);
}

export const examineRuntime: Examination = async ({ nodeVersion, shell }) => {
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
  return list;
};
