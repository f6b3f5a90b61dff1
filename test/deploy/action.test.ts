import { execFile } from "node:child_process";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missingPeers } from "../peers.ts";
import { startSigstoreServices, type SigstoreServices } from "../signing/sigstore-services.ts";
import { checkOut, installNode, runAction, type ActionRun } from "./github-runner.ts";
import { digestOf, pulledFile, startPipelineBench, type PipelineBench } from "./pipeline-bench.ts";

const subject = "repo:example/shop:ref:refs/heads/main";

describe.skipIf(missingPeers("docker-registry"))("the GitHub Action, as a runner runs it", () => {
  let bench: PipelineBench;
  let sigstore: SigstoreServices;
  let node: string;
  let temporary: string;

  beforeAll(async () => {
    bench = await startPipelineBench({ sub: subject, repository: "example/shop", ref: "refs/heads/main" });
    sigstore = await startSigstoreServices();
    node = await installNode(bench.folder);
    await checkOut(join(bench.folder, "action"));
    for (const name of ["workspace", "temp"]) await mkdir(join(bench.folder, name));
    temporary = join(bench.folder, "temp");
  }, 60_000);
  afterAll(async () => {
    await sigstore?.close();
    await bench?.close();
  });

  const defaults = (tag: string) => ({
    source: `${bench.registry}/example/shop:1`,
    destination: `${bench.registry}/example/shop:${tag}`,
    recipients: "kbs:///default/shop-key\n",
    kbs: bench.kbs,
  });
  const withIdentity = () => ({
    ACTIONS_ID_TOKEN_REQUEST_URL: bench.provider.requestUrl,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: bench.provider.requestToken,
  });

  function act(inputs: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = {}): Promise<ActionRun> {
    const action = join(bench.folder, "action");
    const workspace = join(bench.folder, "workspace");
    return runAction({ node, action, workspace, temporary, with: inputs, env: { HOME: bench.home, ...env } });
  }

  const left = async () => (await readdir(temporary)).filter((name) => name !== "_runner_file_commands");
  const stays = async (run: ActionRun) => ({ errors: run.errors, left: await left(), warnings: run.warnings });
  const nothing = { errors: [], left: [], warnings: [] };

  it("seals from a bare checkout with the job's own identity; a guest opens what it pushed", async () => {
    const run = await act({ ...defaults("sealed"), profile: "coco" }, withIdentity());
    expect(run, run.log).toMatchObject({ outcome: "success" });
    expect(await stays(run)).toEqual(nothing);
    const digest = await digestOf(bench, "sealed");
    expect(run.outputs).toEqual({ digest, image: `${bench.registry}/example/shop:sealed@${digest}` });
    expect(bench.provider.asked.at(-1)).toBe("ociseal-kbs");
    expect(run.summary).toContain(digest);
    expect(run.summary).toMatch(/key `kbs:\/\/\/default\/shop-key\/[0-9a-f-]{36}`: created \(confirmed\)/);
    expect(await pulledFile(bench, "sealed", "unsealed", "--insecure-accept-unsigned")).toContain("hello from the pipeline");
  }, 60_000);

  it("shows no token, and gives none to npm; what is installed gives the runner no commands", async () => {
    const run = await act(defaults("quiet"), { ...withIdentity(), GITHUB_TOKEN: "ghs_of_the_job" });
    expect(run, run.log).toMatchObject({ outcome: "success", masked: [bench.provider.given.at(-1)] });
    for (const secret of [...bench.provider.given, bench.provider.requestToken]) expect(run.log + run.summary).not.toContain(secret);
    const seen = /^environment (.*)$/m.exec(run.log)?.[1]?.split(" ") ?? [];
    expect(seen).toEqual(expect.arrayContaining(["PATH", "HOME", "RUNNER_TEMP"]));
    expect(seen.filter((name) => /^(INPUT_|ACTIONS_|GITHUB_TOKEN)/.test(name))).toEqual([]);
    expect(run.log).toContain("::warning::a package speaks to the runner");
    expect(run.warnings).toEqual([]);
  }, 60_000);

  it("signs with the job's identity at a private sigstore, by digest", async () => {
    await writeFile(join(bench.folder, "workspace/signing.json"), JSON.stringify(sigstore.signingConfig(1, "with-timestamps")));
    await writeFile(join(bench.folder, "root.json"), JSON.stringify(sigstore.trustedRoot));
    const run = await act({ ...defaults("keyless"), keyless: "true", "signing-config": "signing.json" }, withIdentity());
    expect(run, run.log).toMatchObject({ outcome: "success", summary: expect.stringContaining(", signed.") });
    expect(bench.provider.asked.at(-1)).toBe("sigstore");
    const verify = ["--certificate-identity", subject, "--certificate-oidc-issuer", bench.provider.issuer, "--trusted-root", "root.json"];
    const verified = await bench.run("verify", ...verify, `${bench.registry}/example/shop:keyless`);
    expect(verified, verified.stderr).toMatchObject({ status: 0 });
  }, 60_000);

  it("waits when GitHub has no token at once", async () => {
    bench.provider.failNext(1);
    const run = await act({ ...defaults("later"), flags: "--layer\n0" }, withIdentity());
    expect(run, run.log).toMatchObject({ outcome: "success" });
  }, 60_000);

  it.each([
    ["no permission for a token", {}, {}, "ERR_ACTION_NO_IDENTITY", "permissions: id-token: write"],
    ["an input that is empty", { recipients: " \n" }, {}, "ERR_ACTION_INPUT", "recipients"],
    ["a switch that is none", { keyless: "yes" }, {}, "ERR_ACTION_INPUT", "true or false"],
    ["a version that is none", { version: "1 --registry http://x", kbs: "" }, {}, "ERR_ACTION_INPUT", "version"],
    ["a source that is not there", { source: "oci:$(touch owned)", recipients: "jwe:x;touch owned", kbs: "" }, {}, "ERR_", "hint"],
    ["a flag that there is not", { flags: "--recepient", kbs: "" }, {}, "ERR_USAGE", "--recipient"],
  ])("says what to do about %s, and leaves nothing", async (_name, inputs, env, title, hint) => {
    const run = await act({ ...defaults("never"), ...inputs }, env);
    expect(run, run.log).toMatchObject({ outcome: "failure", outputs: {}, summary: "" });
    expect(run.errors.map((error) => error.title)).toEqual([expect.stringContaining(title)]);
    expect(run.errors[0]?.message).toContain(hint);
    expect(run.errors[0]?.message).toContain("\nhint: ");
    expect(await left()).toEqual([]);
    expect(await readdir(join(bench.folder, "workspace"))).not.toContain("owned");
  });

  it("removes after the job what a cancelled run left, and nothing else", async () => {
    const post = join(bench.folder, "action/deploy/github/post.ts");
    for (const name of ["ociseal-cancelled", "of-somebody-else"]) await mkdir(join(temporary, name));
    for (const name of ["ociseal-cancelled", "of-somebody-else", "ociseal-never-made"])
      await promisify(execFile)(node, [post], { env: { STATE_work: join(temporary, name) } });
    await promisify(execFile)(node, [post], { env: {} });
    expect(await left()).toEqual(["of-somebody-else"]);
    await rm(join(temporary, "of-somebody-else"), { recursive: true });
  });

  it("is refused a key by the service when the job is of another branch", async () => {
    const other = await startPipelineBench({ repository: "example/shop", ref: "refs/heads/fork" });
    try {
      const inputs = { ...defaults("never"), kbs: other.kbs };
      const identity = {
        ACTIONS_ID_TOKEN_REQUEST_URL: other.provider.requestUrl,
        ACTIONS_ID_TOKEN_REQUEST_TOKEN: other.provider.requestToken,
      };
      const run = await act(inputs, identity);
      expect(run, run.log).toMatchObject({ outcome: "failure", errors: [{ title: "ERR_KBS_ADMIN_DENIED" }] });
      expect(await left()).toEqual([]);
    } finally {
      await other.close();
    }
  }, 60_000);
});
