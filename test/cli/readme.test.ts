import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeHelloImage, makeIndex, seedRegistry } from "../../registry-fixtures/index.ts";
import { serveRegistry, type RegistryServer } from "../../src/registry-server/index.ts";
import { cleanEnvironment, projectFolder } from "./run.ts";
import { freePort } from "../free-port.ts";

/** Blocks of shell commands of a page, in order. */
function shellBlocks(text: string): readonly string[] {
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? "");
}

let folder: string;
let hub: RegistryServer;
let readme: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-readme-"));
  readme = await readFile(join(projectFolder, "README.md"), "utf8");
  // docker.io is a registry of this test, by way of registries.conf as an operator would write it.
  hub = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
  await seedRegistry(
    hub,
    "library/alpine",
    makeIndex({ images: [await makeHelloImage("hi\n", "amd64"), await makeHelloImage("hi\n", "arm64")] }),
    "3",
  );
  await mkdir(join(folder, ".config/containers"), { recursive: true });
  const location = hub.url.replace("http://", "");
  await writeFile(
    join(folder, ".config/containers/registries.conf"),
    `[[registry]]\nprefix = "docker.io"\nlocation = "${location}"\ninsecure = true\n`,
  );
});

afterAll(async () => {
  await hub.close();
  await rm(folder, { recursive: true, force: true });
});

describe("the README", () => {
  it.each([
    ["README.md", 6],
    ["docs/getting-started.md", 4],
  ])(
    "%s runs, command by command, as a stranger would type it",
    async (page, atLeast) => {
      const text = await readFile(join(projectFolder, page), "utf8");
      const blocks = shellBlocks(text).filter((block) => !/^make (demo|test)$/m.test(block));
      expect(blocks.length).toBeGreaterThan(atLeast);
      const cwd = await mkdtemp(join(folder, "page-"));
      const [registryPort, kbsPort] = [await freePort(), await freePort()];
      const script = [
        "set -eu",
        `export PATH="${projectFolder}/bin:$PATH"`,
        "servers=",
        // Whoever holds the output open would keep the test waiting.
        "trap 'kill $servers' EXIT",
        ...blocks.map((block) =>
          block.replaceAll("127.0.0.1:5000", `127.0.0.1:${registryPort}`).replaceAll("127.0.0.1:8080", `127.0.0.1:${kbsPort}`),
        ),
      ]
        .join("\n")
        .replace(/^make build$/m, ": built before the tests")
        .replace('export PATH="$PWD/bin:$PATH"', `export PATH="${projectFolder}/bin:$PATH"`)
        // What a person waits for by reading on.
        .replace(/(ociseal registry serve .* &)/, '$1 servers="$servers $!"')
        .replace(
          /(ociseal kbs serve .* &)/,
          `$1 servers="$servers $!"\nfor i in $(seq 300); do [ -s kbs/admin.token ] && ${process.execPath} -e "fetch('http://127.0.0.1:${registryPort}/v2/').catch(() => process.exit(1))" && break; sleep 0.1; done`,
        );
      const outcome = await new Promise<{ status: unknown; output: string }>((done) => {
        execFile("sh", ["-c", script], { cwd, env: cleanEnvironment({ HOME: folder }), timeout: 170_000 }, (error, stdout, stderr) => {
          done({ status: error === null ? 0 : (error.code ?? error.signal), output: `${stdout}\n${stderr}` });
        });
      });
      expect(outcome, outcome.output).toMatchObject({ status: 0 });
    },
    180_000,
  );

  it("shows the whole path with make demo", async () => {
    const output = await new Promise<string>((done) => {
      execFile(
        process.execPath,
        ["--disable-warning=ExperimentalWarning", join(projectFolder, "scripts/demo.ts")],
        { env: cleanEnvironment(), timeout: 170_000 },
        (_error, stdout, stderr) => done(stdout + stderr),
      );
    });
    expect(output).toContain("identical");
    expect(output).toContain("Done.");
  }, 180_000);

  it("names only make targets that there are", async () => {
    const makefile = await readFile(join(projectFolder, "Makefile"), "utf8");
    const named = [...readme.matchAll(/`?make ([a-z0-9-]+)`?/g)].map((match) => match[1] ?? "").filter((name) => name !== "brings");
    expect(named.length).toBeGreaterThan(3);
    for (const name of named) expect(makefile, name).toMatch(new RegExp(`^${name}:`, "m"));
  });
});
