import { chmod, mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { program, projectFolder } from "../cli/run.ts";
import { missingPeers } from "../peers.ts";
import { startSigstoreServices, type SigstoreServices } from "../signing/sigstore-services.ts";
import { runGitlabJob, type JobRun } from "./gitlab-runner.ts";
import { digestOf, pulledFile, startPipelineBench, type PipelineBench } from "./pipeline-bench.ts";

describe.skipIf(missingPeers("docker-registry"))("the GitLab template, as a runner runs it", () => {
  let bench: PipelineBench;
  let sigstore: SigstoreServices;
  let project: string;
  let count = 0;

  beforeAll(async () => {
    bench = await startPipelineBench({ sub: "project_path:example/shop", ref: "refs/heads/main" });
    sigstore = await startSigstoreServices();
    // What stands for npm: it brings this checkout's program, and shows what it was asked for.
    await mkdir(join(bench.folder, "bin"));
    const npm = `#!/bin/sh\necho "npm $*"\nmkdir -p "$3/node_modules/.bin" && ln -s "${program}" "$3/node_modules/.bin/ociseal"\n`;
    await writeFile(join(bench.folder, "bin/npm"), npm);
    await chmod(join(bench.folder, "bin/npm"), 0o755);
  }, 60_000);
  afterAll(async () => {
    await sigstore?.close();
    await bench?.close();
  });
  beforeEach(async () => {
    count += 1;
    project = join(bench.folder, `project ${count}`);
    await mkdir(project);
  });

  function job(
    inputs: Readonly<Record<string, string | boolean>>,
    variables: Readonly<Record<string, string>> = {},
    shell: "bash" | "sh" = "bash",
  ): Promise<JobRun> {
    const standard = {
      PATH: [join(bench.folder, "bin"), dirname(process.execPath), process.env["PATH"] ?? ""].join(":"),
      CI_REGISTRY: bench.registry,
      CI_REGISTRY_IMAGE: `${bench.registry}/example/shop`,
      CI_REGISTRY_USER: "robot",
      CI_REGISTRY_PASSWORD: "s3cret",
      HOME: "/nonexistent",
    };
    return runGitlabJob({
      template: join(projectFolder, "deploy/gitlab/seal.gitlab-ci.yml"),
      inputs: { source: "$CI_REGISTRY_IMAGE:1", recipient: "kbs:///default/shop-key", kbs: bench.kbs, ...inputs },
      project,
      shell,
      variables: { ...standard, ...variables },
      token: (audience) => bench.provider.token(audience),
    });
  }

  it.each(["bash", "sh"] as const)(
    "seals with the job's own identity in %s, and tells later jobs the digest",
    async (shell) => {
      const run = await job({ destination: `$CI_REGISTRY_IMAGE:gitlab-${shell}` }, {}, shell);
      expect(run, run.log).toMatchObject({ status: 0, variables: { OCISEAL_DIGEST: await digestOf(bench, `gitlab-${shell}`) } });
      expect(run.log.replaceAll(/\d{10}/g, "NOW")).toContain("\u001b[0Ksection_start:NOW:ociseal_seal\r\u001b[0KSeal\n");
      for (const secret of [...bench.provider.given, "s3cret"]) expect(run.log).not.toContain(secret);
      expect(await readdir(project)).toEqual(["ociseal.env"]);
      const unsealed = await pulledFile(bench, `gitlab-${shell}`, `unsealed-${shell}`, "--insecure-accept-unsigned");
      expect(unsealed).toContain("hello from the pipeline");
    },
    60_000,
  );

  it("signs with a key that the project holds, and with ociseal's own profile", async () => {
    const made = await bench.run("key", "generate", "ec", "--out", "ci");
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const key = { COSIGN_KEY: join(bench.folder, "ci.key"), COSIGN_PASSWORD: "" };
    const run = await job(
      { destination: "$CI_REGISTRY_IMAGE:keyed", "sign-key": "$COSIGN_KEY", profile: "ociseal", flags: "--layer 0" },
      key,
    );
    expect(run, run.log).toMatchObject({ status: 0 });
    expect(await pulledFile(bench, "keyed", "unsealed-keyed", "--verify-key", "ci.pub")).toContain("hello from the pipeline");
  }, 60_000);

  it("asks for what signs without a key only when it signs, and names the version that the package wants", async () => {
    const run = await job({ destination: "$CI_REGISTRY_IMAGE:never", keyless: true, flags: "--no-such-flag" });
    const { peerDependencies, version } = (await import("../../package.json", { with: { type: "json" } })).default;
    expect(run.log).toContain(` ociseal@${version} @sigstore/sign@${peerDependencies["@sigstore/sign"]}\n`);
  });

  it("signs with the job's identity at a private sigstore", async () => {
    await writeFile(join(bench.folder, "signing.json"), JSON.stringify(sigstore.signingConfig(1, "with-timestamps")));
    await writeFile(join(bench.folder, "root.json"), JSON.stringify(sigstore.trustedRoot));
    const config = join(bench.folder, "signing.json");
    const run = await job({ destination: "$CI_REGISTRY_IMAGE:keyless", keyless: true, "signing-config": config });
    expect(run, run.log).toMatchObject({ status: 0 });
    const identity = ["--certificate-identity", "project_path:example/shop", "--certificate-oidc-issuer", bench.provider.issuer];
    const verified = await bench.run("verify", ...identity, "--trusted-root", "root.json", `${bench.registry}/example/shop:keyless`);
    expect(verified, verified.stderr).toMatchObject({ status: 0 });
  }, 60_000);

  it("fails with the reason and the hint, takes no input for shell, and leaves nothing", async () => {
    const run = await job({ source: "oci:$(touch owned)", destination: "oci:`touch owned`;touch owned", flags: "" });
    expect(run.status, run.log).toBeGreaterThan(0);
    expect(run.log).toMatch(/^error: .*\[ERR_[A-Z_]+\]\nhint: {2}\S/m);
    expect(run.variables).toEqual({});
    expect(await readdir(project)).toEqual([]);
  }, 60_000);

  it("is refused by GitLab without a destination, with another profile, or with an input that there is not", async () => {
    await expect(job({})).rejects.toThrow("destination input: required value");
    await expect(job({ destination: "a", profile: "cocoa" })).rejects.toThrow("profile input: cocoa is not among");
    await expect(job({ destination: "a", recipients: "b" })).rejects.toThrow("unknown input arguments: recipients");
  });
});
