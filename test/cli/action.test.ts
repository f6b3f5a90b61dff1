import { execFile } from "node:child_process";
import { chmod, mkdtemp, readFile, readdir, rm, writeFile, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { makeHelloImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { cleanEnvironment, ociseal, program, projectFolder, startServer } from "./run.ts";

interface Action {
  readonly inputs: Readonly<Record<string, { readonly default?: string }>>;
  readonly runs: { readonly steps: readonly { readonly run?: string; readonly env?: Readonly<Record<string, string>> }[] };
}

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-action-"));
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, await makeHelloImage("hi\n", "amd64"), "app");
  await layout.close();
  // What a runner has: npm, which brings the program, and an issuer of identity tokens.
  await mkdir(join(folder, "bin"));
  await tool("npm", `mkdir -p "$3/node_modules/.bin" && ln -s "${program}" "$3/node_modules/.bin/ociseal"`);
  await tool("curl", `printf '{"value":"%s"}' "$(cat "${join(folder, "identity")}")"`);
});

afterEach(async () => rm(folder, { recursive: true, force: true }));

async function tool(name: string, script: string): Promise<void> {
  await writeFile(join(folder, "bin", name), `#!/bin/sh\n${script}\n`);
  await chmod(join(folder, "bin", name), 0o755);
}

/** Runs the action's script with inputs, as GitHub's runner fills them in. */
async function act(
  inputs: Readonly<Record<string, string>>,
): Promise<{ status: unknown; output: string; set: string; left: readonly string[] }> {
  const { runs, inputs: declared } = parse(await readFile(join(projectFolder, "action.yml"), "utf8")) as Action;
  const step = runs.steps.find(({ run }) => run !== undefined);
  const valueOf = (expression: string): string => {
    const name = /^\$\{\{ inputs\.([a-z-]+) \}\}$/.exec(expression)?.[1] ?? "";
    return inputs[name] ?? declared[name]?.default ?? "";
  };
  const env = Object.fromEntries(Object.entries(step?.env ?? {}).map(([name, value]) => [name, valueOf(value)]));
  await mkdir(join(folder, "temp"), { recursive: true });
  await writeFile(join(folder, "output"), "");
  const surroundings = {
    PATH: `${join(folder, "bin")}:${process.env["PATH"] ?? ""}`,
    RUNNER_TEMP: join(folder, "temp"),
    GITHUB_OUTPUT: join(folder, "output"),
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: "request",
    ACTIONS_ID_TOKEN_REQUEST_URL: "http://127.0.0.1:9/token",
  };
  const [status, output] = await new Promise<[unknown, string]>((done) => {
    execFile(
      "bash",
      ["-c", step?.run ?? "exit 99"],
      { cwd: folder, env: cleanEnvironment({ ...surroundings, ...env }), timeout: 50_000 },
      (error, stdout, stderr) => done([error === null ? 0 : error.code, stdout + stderr]),
    );
  });
  return { status, output, set: await readFile(join(folder, "output"), "utf8"), left: await readdir(join(folder, "temp")) };
}

describe("the GitHub Action", () => {
  it("seals an image for a key at the KBS, with the job's own token, and says its digest", async () => {
    const kbs = await startServer(["kbs", "serve", "--dev", "--listen", "127.0.0.1:0", "--data", "kbs"], { cwd: folder });
    try {
      await writeFile(join(folder, "identity"), (await readFile(join(folder, "kbs/admin.token"), "utf8")).trim());
      const acted = await act({
        source: "oci:image:app",
        destination: "oci:sealed:app",
        recipients: "kbs:///default/app-key\n",
        kbs: kbs.ready["listening"] ?? "",
        profile: "coco",
      });
      expect(acted, acted.output).toMatchObject({ status: 0, left: [] });
      const index = JSON.parse(await readFile(join(folder, "sealed/index.json"), "utf8")) as { manifests: { digest: string }[] };
      expect(acted.set).toBe(`digest=${index.manifests[0]?.digest ?? ""}\n`);
      const linted = await ociseal(["lint", "--profile", "coco", "oci:sealed:app"], { cwd: folder });
      expect(linted, linted.stderr).toMatchObject({ status: 0 });
    } finally {
      await kbs.stop();
    }
  });

  it("fails with the reason, takes no input for shell, and leaves no token behind", async () => {
    const acted = await act({
      source: "oci:image:$(touch owned)",
      destination: "oci:sealed:app",
      recipients: "jwe:missing.pub'; touch owned",
    });
    expect(acted.status).not.toBe(0);
    expect(acted.output).toContain('"error"');
    expect(acted).toMatchObject({ set: "", left: [] });
    expect(await readdir(folder)).not.toContain("owned");
  });
});
