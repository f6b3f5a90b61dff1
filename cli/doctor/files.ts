import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import type { Shell } from "../shell.ts";
import { codeOf } from "./finding.ts";

const maxBytes = 4 << 20;

/** A configuration file's text; `undefined` when there is none. */
export async function textOf(path: string): Promise<string | undefined> {
  try {
    const { size } = await stat(path);
    if (size > maxBytes) throw new Error(`${path} has ${size} bytes, more than the limit of ${maxBytes}`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Where a program is, as a shell would find it; `undefined` when it is not there or may not be run. */
export async function programPath(program: string, env: Shell["env"], root = "/"): Promise<string | undefined> {
  const candidates = isAbsolute(program)
    ? [join(root, program)]
    : (env["PATH"] ?? "")
        .split(delimiter)
        .filter((folder) => folder !== "")
        .map((folder) => join(folder, program));
  for (const path of candidates) {
    try {
      await access(path, constants.X_OK);
    } catch {
      // The next folder may have it.
      continue;
    }
    return path;
  }
  return undefined;
}
