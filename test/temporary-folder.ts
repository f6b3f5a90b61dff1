import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

let folder: string | undefined;

/**
 * One folder for everything that a run of the tests puts aside, gone when the run ends: also what belongs to a file
 * whose tests are all skipped, or whose worker was stopped, for then no `afterAll` runs.
 */
export function setup(): void {
  // Short and in lower case: sockets and podman's folders have few characters, and names of images have no capitals.
  folder = join(tmpdir(), `oct-${randomBytes(4).toString("hex")}`);
  mkdirSync(folder, { mode: 0o700 });
  // Databases run as users of their own, and their folders are below this one.
  chmodSync(folder, 0o711);
  process.env["TMPDIR"] = folder;
}

export function teardown(): void {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}
