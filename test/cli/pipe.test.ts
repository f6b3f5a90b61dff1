import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const program = fileURLToPath(new URL("../../bin/ociseal.js", import.meta.url));

it("a reader that stops reading ends neither the work nor its exit code", async () => {
  const child = spawn(process.execPath, [program, "copy", "--help"], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  const [complaint, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  expect([code, complaint]).toEqual([0, ""]);
});

it("a reader that stops reading complaints does not change the exit code either", async () => {
  const child = spawn(process.execPath, [program, "inspect", "docker://127.0.0.1:1/none"], { stdio: ["ignore", "ignore", "pipe"] });
  child.stderr.destroy();
  expect(await once(child, "exit")).toEqual([4, null]);
});
