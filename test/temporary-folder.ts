import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

let folder: string | undefined;

/**
 * One folder for everything that a run of the tests puts aside, gone when the run ends: also what belongs to a file
 * whose tests are all skipped, or whose worker was stopped, for then no `afterAll` runs.
 */
export function setup(): void {
  folder = mkdtempSync(join(tmpdir(), "ociseal-test-"));
  // Databases run as users of their own, and their folders are below this one.
  chmodSync(folder, 0o711);
  process.env["TMPDIR"] = folder;
}

export function teardown(): void {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}
