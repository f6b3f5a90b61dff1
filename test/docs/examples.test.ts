import { execFile, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exampleOf, subpaths } from "../../scripts/library-examples.ts";
import { cleanEnvironment, projectFolder } from "../cli/run.ts";

const names = subpaths(projectFolder);

describe("the library's examples", () => {
  it("are there for every subpath, and import what a user could", () => {
    expect(names.length).toBeGreaterThan(15);
    for (const name of names) expect(existsSync(join(projectFolder, exampleOf(name))), name).toBe(true);
    const files = readdirSync(join(projectFolder, "examples")).filter((name) => name.endsWith(".ts"));
    expect(files.length).toBe(names.length + 1);
    for (const file of files) {
      const text = readFileSync(join(projectFolder, "examples", file), "utf8");
      const imported = [...text.matchAll(/from "([^"]+)"/g)].map((match) => match[1] ?? "");
      const foreign = imported.filter((name) => !/^(node:|ociseal(\/|$)|tar-stream$|\.\/tiny-image\.ts$)/.test(name));
      expect(foreign, file).toEqual([]);
    }
  });

  it.concurrent.each(names)("%s runs, and says what it did", async (name) => {
    const file = join(projectFolder, exampleOf(name));
    const outcome = await new Promise<{ status: unknown; stdout: string; stderr: string }>((done) => {
      const options = { cwd: tmpdir(), env: cleanEnvironment(), timeout: 50_000 };
      execFile(process.execPath, ["--disable-warning=ExperimentalWarning", file], options, (error, stdout, stderr) =>
        done({ status: error === null ? 0 : error.code, stdout, stderr }),
      );
    });
    expect(outcome, outcome.stderr).toMatchObject({ status: 0, stderr: "" });
    expect(outcome.stdout.trim()).not.toBe("");
    expect(outcome.stdout).not.toMatch(/\bfalse\b|undefined/);
  });

  it("are typed", () => {
    const checked = spawnSync(process.execPath, [join(projectFolder, "node_modules/typescript/bin/tsc"), "-p", "examples/tsconfig.json"], {
      cwd: projectFolder,
      encoding: "utf8",
    });
    expect(checked.stdout).toBe("");
    expect(checked.status).toBe(0);
  });
});
