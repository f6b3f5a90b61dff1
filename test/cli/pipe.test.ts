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
