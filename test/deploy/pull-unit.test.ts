import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { makeProgram } from "../../cli/program.ts";

const path = resolve(import.meta.dirname, "../../deploy/systemd/ociseal-pull@.service");
const unit = readFileSync(path, "utf8");

function missingSystemd(): boolean {
  if (spawnSync("systemd-analyze", ["--version"]).status === 0) return false;
  process.stderr.write("SKIPPED: the unit of the guest's pull is not verified: systemd-analyze is not installed\n");
  return true;
}

describe("the unit that pulls an image when a guest boots", () => {
  it("runs a command line that the program takes, into a directory that is new and in memory", () => {
    const words = /^ExecStart=\/usr\/bin\/env ociseal (.*)$/m.exec(unit)?.[1]?.split(" ") ?? [];
    const program = makeProgram({ launch: () => async () => undefined }, { json: false, width: 100 });
    expect(() => program.parse(words, { from: "user" })).not.toThrow();
    expect(words.at(-1)).toBe("/run/ociseal/%i/bundle");
    for (const line of [
      "RuntimeDirectory=ociseal/%i",
      "RuntimeDirectoryMode=0700",
      "LimitCORE=0",
      "MemorySwapMax=0",
      "NoNewPrivileges=yes",
    ])
      expect(unit.split("\n")).toContain(line);
  });

  it("does not try again what was refused", () => {
    // Exit codes: 4 is the only refusal that time may heal.
    expect(unit.split("\n")).toContain("RestartPreventExitStatus=2 5 6 7 8");
  });

  it.skipIf(missingSystemd())("is one that systemd takes without a warning", () => {
    const folder = mkdtempSync(join(tmpdir(), "ociseal-unit-"));
    try {
      const instance = join(folder, "ociseal-pull@app.service");
      copyFileSync(path, instance);
      const verified = spawnSync("systemd-analyze", ["verify", "--man=no", instance], { encoding: "utf8" });
      expect(verified).toMatchObject({ status: 0, stdout: "", stderr: "" });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
