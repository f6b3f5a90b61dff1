import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** A new folder in the system's temporary folder, removed after the file's tests. */
export async function temporaryFolder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ociseal-test-"));
  folders.push(path);
  return path;
}

const folders: string[] = [];

afterAll(async () => {
  for (const path of folders.splice(0)) await rm(path, { recursive: true, force: true });
});
