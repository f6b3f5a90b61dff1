import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const scripts = resolve(import.meta.dirname, "../scripts");
let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-setup-"));
  mkdirSync(join(folder, "scripts"));
  mkdirSync(join(folder, "bin"));
  for (const name of ["runtime.sh", "install.sh"]) cpSync(join(scripts, name), join(folder, "scripts", name));
  writeFileSync(join(folder, "package-lock.json"), "{}");
  // A Node.js that is too old, whatever it is asked.
  addProgram("node", "exit 1");
});
afterEach(() => rmSync(folder, { recursive: true }));

function addProgram(name: string, script: string): void {
  writeFileSync(join(folder, "bin", name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/** Runs a script of the set-up on a machine whose node and npm are the ones in `bin`. */
function setUp(script: "runtime.sh" | "install.sh") {
  return spawnSync("/bin/sh", [join(folder, "scripts", script)], {
    env: { PATH: `${join(folder, "bin")}:/usr/bin:/bin`, HOME: join(folder, "home") },
    encoding: "utf8",
  });
}

/** npm as far as the set-up uses it: `install --prefix STAGE … PACKAGE@VERSION`, and `ci`. */
const npm = `echo "$npm_config_cache" >> "\${0%/bin/npm}/caches"
mkdir -p "$npm_config_cache"
if [ "$1" = ci ]; then mkdir -p node_modules; exit; fi
for last; do :; done
package="$3/node_modules/\${last%@*}"
mkdir -p "$package/bin"
printf '#!/bin/sh\\nexit 0\\n' > "$package/bin/node"
chmod 755 "$package/bin/node"`;

describe("the set-up of a fresh clone", () => {
  it("puts Node.js and everything of npm's below the project, and is done once", () => {
    addProgram("npm", npm);
    const runtime = setUp("runtime.sh");
    expect(runtime).toMatchObject({ status: 0, stdout: `${join(folder, ".tools/node/bin")}\n` });
    expect(setUp("install.sh").status).toBe(0);
    expect(setUp("install.sh")).toMatchObject({ status: 0, stderr: "" });
    const caches = readFileSync(join(folder, "caches"), "utf8").trim().split("\n");
    expect(caches).toEqual([join(folder, ".tools/npm-cache"), join(folder, ".tools/npm-cache")]);
    expect(readdirSync(join(folder, ".tools"))).toEqual(["node"]);
    expect(existsSync(join(folder, "home"))).toBe(false);
  });

  it("says what to do when Node.js cannot be fetched, and leaves nothing half-done", () => {
    addProgram("npm", "echo 'npm error ECONNREFUSED' >&2; exit 1");
    const { status, stderr } = setUp("runtime.sh");
    expect(status).toBe(1);
    expect(stderr).toMatch(/npm error ECONNREFUSED\nerror: could not fetch .* from the npm registry\nhint: {2}check the network/);
    expect(readdirSync(join(folder, ".tools"))).toEqual([]);
  });

  it("says what to do when packages cannot be fetched, and tries again the next time", () => {
    addProgram("npm", `[ "$1" = ci ] && { echo 'npm error ECONNREFUSED' >&2; exit 1; }\n${npm}`);
    for (const _ of [1, 2]) {
      const { status, stderr } = setUp("install.sh");
      expect(status).toBe(1);
      expect(stderr).toMatch(/npm error ECONNREFUSED\nerror: npm ci failed\nhint: {2}check the network/);
    }
    expect(existsSync(join(folder, "node_modules"))).toBe(false);
  });
});
