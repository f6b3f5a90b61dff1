import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingTrustee, startTrustee, type TestTrustee } from "../trustee.ts";
import { ociseal, type Outcome } from "./run.ts";

let folder: string;
const run = (...args: readonly string[]): Promise<Outcome> => ociseal(args, { cwd: folder });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-trustee-"));
  await writeFile(join(folder, "wrong.rego"), "not a policy\n");
  await writeFile(join(folder, "token"), "token");
});
afterAll(() => rm(folder, { recursive: true }));

it("an appraisal policy that is none goes to nobody: Trustee would store it, and attest nobody any more", async () => {
  const nobody = ["--kbs", "http://127.0.0.1:9", "--admin-token", "token", "--json"];
  const refused = await run("kbs", "policy", "attestation", "set", "wrong.rego", ...nobody);
  expect(refused).toMatchObject({ status: 2, stdout: expect.stringContaining("ERR_POLICY_NOT_UNDERSTOOD") as unknown });
});

describe.skipIf(missingTrustee("kbs"))("an image whose keys the real Trustee keeps", () => {
  let trustee: TestTrustee;
  let at: readonly string[];
  const admin = (...args: readonly string[]): Promise<Outcome> => run("kbs", ...args, ...at, "--admin-token", "admin");
  const encrypt = (to: string, recipient: string, token: string): Promise<Outcome> =>
    run("encrypt", "oci:app:it", `oci:${to}:it`, "-r", recipient, ...at, "--kbs-admin-token", token);
  const pull = (to: string): Promise<Outcome> =>
    run("pull", "oci:sealed:it", to, ...at, "--tee", "sample", "-k", "kbs", "--insecure-accept-unsigned", "--rootless");

  beforeAll(async () => {
    trustee = await startTrustee();
    at = ["--kbs", trustee.url, "--tls-ca", "authority.pem"];
    await writeFile(join(folder, "authority.pem"), caCertificate);
    await writeFile(join(folder, "admin"), trustee.token());
    await writeFile(join(folder, "publisher"), trustee.token({ role: "publisher" }));
    await writeFile(join(folder, "policy.rego"), 'package policy\ndefault allow = false\nallow if data.plugin == "resource"\n');
    await writeFile(join(folder, "deny.rego"), "package policy\ndefault allow = false\n");
    const layout = await openLayout({ path: join(folder, "app"), mode: "write", durability: "none" });
    await pushImage(layout, await makeImage({ layers: [{ entries: [{ kind: "file", path: "hello", content: "hello" }] }] }), "it");
    await layout.close();
  });
  afterAll(() => trustee.stop());

  it("is encrypted, pulled where the policy lets it, and nowhere else", async () => {
    const made = await encrypt("sealed", "kbs:///default/image-kek", "publisher");
    expect(made, made.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining("created") as unknown });
    expect(await pull("by-default")).toMatchObject({ status: 5, stderr: expect.stringContaining("ERR_KBS_RELEASE_DENIED") as unknown });
    expect(await admin("policy", "set", "policy.rego")).toMatchObject({ status: 0 });
    const pulled = await pull("out");
    expect(pulled, pulled.stderr).toMatchObject({ status: 0 });
    expect(await readFile(join(folder, "out/hello"), "utf8")).toBe("hello");
    expect(await admin("policy", "set", "deny.rego")).toMatchObject({ status: 0 });
    expect(await pull("denied")).toMatchObject({ status: 5 });
  });

  it("is not made where its key may not go, or would go over another", async () => {
    expect(await encrypt("elsewhere", "kbs:///other/image-kek", "publisher")).toMatchObject({ status: 5 });
    expect(await encrypt("over", "kbs:///default/image-kek/app", "publisher")).toMatchObject({ status: 2 });
    await expect(readFile(join(folder, "elsewhere/index.json"))).rejects.toThrow();
    await expect(readFile(join(folder, "over/index.json"))).rejects.toThrow();
  });

  it("has a service that the doctor finds well", async () => {
    const { stdout, status } = await run("doctor", "kbs", ...at);
    expect([status, stdout]).toEqual([0, expect.stringContaining("answers") as unknown]);
  });
});
