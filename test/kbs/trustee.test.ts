import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sampleAttester } from "../../src/attestation/index.ts";
import { connectKbs, connectKbsAdmin, importTrusteeData, type KbsAdmin, type KbsClient } from "../../src/kbs/index.ts";
import { policyEngines } from "../../cli/policy-engines.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { kbsClient, missingTrustee, startTrustee, type TestTrustee } from "../trustee.ts";
import { startBench, type Bench } from "./harness.ts";

const allowAll = 'package policy\nimport rego.v1\ndefault allow := false\nallow if data.plugin == "resource"\n';
const denyAll = "package policy\nimport rego.v1\ndefault allow := false\n";
/** Trustee's own, in kbs/sample_policies. */
const affirming = `package policy
import rego.v1
default allow := false
allow if { not any_not_affirming; count(input.submods) > 0 }
any_not_affirming if { some _, submod in input.submods; submod["ear.status"] != "affirming" }
`;
/** What Trustee's default policy says of the sample TEE. */
const appraisal = `package policy
import rego.v1
default hardware := 97
trust_claims := { "executables": 3, "hardware": hardware, "configuration": 2 }
hardware := 2 if { input.sample; input.sample.svn in query_reference_value("svn") }
`;
const sampleReference = { svn: ["1"] };

describe.skipIf(missingTrustee("kbs"))("the real Trustee", () => {
  let trustee: TestTrustee;
  let admin: KbsAdmin;
  const closing: (() => Promise<void>)[] = [];
  const tls = { authorities: caCertificate };

  const adminWith = (token: string): KbsAdmin => {
    const made = connectKbsAdmin({ url: trustee.url, tls, token });
    closing.push(() => made.close());
    return made;
  };
  const guestWith = (teeKey: "P-256" | "P-521" | "RSA-OAEP-256" = "P-256"): KbsClient => {
    const made = connectKbs({ url: trustee.url, tls, attester: sampleAttester(), teeKey });
    closing.push(() => made.close());
    return made;
  };
  const release = (text: string) => admin.policies.put({ id: "resource-policy", language: "rego", text });

  beforeAll(async () => {
    trustee = await startTrustee();
    admin = adminWith(trustee.token());
    await release(allowAll);
  });
  afterAll(async () => {
    for (const close of closing) await close();
    await trustee.stop();
  });

  it.each(["P-256", "P-521", "RSA-OAEP-256"] as const)("releases a resource to a guest with a %s key", async (teeKey) => {
    const value = Buffer.from([0, 255, 10, 13]);
    expect(await admin.putResource("kbs:///default/key/one", value)).toBe("stored");
    expect(await guestWith(teeKey).fetchResource("kbs:///default/key/one")).toEqual(value);
  });

  it("gives one token for many resources", async () => {
    const guest = guestWith();
    await admin.putResource("kbs:///default/key/a", Buffer.from("a"));
    await admin.putResource("kbs:///default/key/b", Buffer.from("b"));
    const token = await guest.attestationToken();
    expect(await Promise.all(["a", "b"].map((tag) => guest.fetchResource(`kbs:///default/key/${tag}`)))).toEqual([
      Buffer.from("a"),
      Buffer.from("b"),
    ]);
    expect(await guest.attestationToken()).toBe(token);
  });

  it("refuses by policy, and says what is not there", async () => {
    await admin.putResource("kbs:///default/key/one", Buffer.from("1"));
    await release(denyAll);
    await expect(guestWith().fetchResource("kbs:///default/key/one")).rejects.toMatchObject({
      code: "ERR_KBS_RELEASE_DENIED",
      details: { status: 401, type: "PolicyDeny" },
    });
    await release(allowAll);
    await expect(guestWith().fetchResource("kbs:///default/key/none")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
  });

  it("appraises with our policy and our reference values", async () => {
    await admin.putResource("kbs:///default/key/one", Buffer.from("1"));
    await admin.attestationPolicies.put({ id: "default_cpu", language: "rego", text: appraisal });
    await release(affirming);
    await admin.references.set({ svn: ["7"] });
    await expect(guestWith().fetchResource("kbs:///default/key/one")).rejects.toMatchObject({ code: "ERR_KBS_RELEASE_DENIED" });
    await admin.references.set(sampleReference);
    expect(await admin.references.get("svn")).toEqual(["1"]);
    expect(await admin.references.get("none")).toBeUndefined();
    expect((await guestWith().fetchResource("kbs:///default/key/one")).toString()).toBe("1");
    await release(allowAll);
  });

  it("holds a key that was registered, as a guest proves", async () => {
    const proving = connectKbsAdmin({ url: trustee.url, tls, token: trustee.token({ role: "publisher" }), verifyWith: guestWith() });
    closing.push(() => proving.close());
    const { uri, key, proof } = await proving.registerKey("kbs:///default/image-kek/app");
    expect([proof, await guestWith().fetchResource(uri)]).toEqual(["attested", key]);
  });

  it("refuses tokens that are missing, foreign, old, without a role, or of another role", async () => {
    const now = Math.floor(Date.now() / 1000);
    for (const token of [
      "x",
      trustee.token({ exp: now - 3600 }),
      trustee.token({ role: undefined }),
      trustee.token({ role: "publisher" }),
    ]) {
      const stranger = adminWith(token);
      await expect(stranger.putResource("kbs:///default/key/x", Buffer.from("x"))).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
      await expect(stranger.policies.put({ id: "resource-policy", language: "rego", text: allowAll })).rejects.toMatchObject({
        code: "ERR_KBS_ADMIN_DENIED",
      });
      await expect(stranger.references.get("svn")).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    }
    await expect(guestWith().fetchResource("kbs:///default/key/x")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
  });

  it("is never asked to write on a condition, which it would not keep", async () => {
    await admin.putResource("kbs:///default/key/kept", Buffer.from("kept"));
    for (const condition of ["absent", { version: 1 }] as const)
      await expect(admin.putResource("kbs:///default/key/kept", Buffer.from("lost"), { condition })).rejects.toMatchObject({
        code: "ERR_KBS_REQUEST_REFUSED",
      });
    expect((await guestWith().fetchResource("kbs:///default/key/kept")).toString()).toBe("kept");
  });

  it("deletes, and says that there is nothing to delete", async () => {
    await admin.putResource("kbs:///default/key/gone", Buffer.from("x"));
    await admin.deleteResource("kbs:///default/key/gone");
    await expect(admin.deleteResource("kbs:///default/key/gone")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
  });

  it("is told apart from a service that does not hold something, where it does not offer something", async () => {
    for (const asked of [
      () => admin.keys.list(),
      () => admin.keys.create("kbs:///a/b/c"),
      () => admin.policies.list(),
      () => admin.policies.get("resource-policy"),
      () => admin.attestationPolicies.get("default_cpu"),
      () => admin.references.list(),
      () => admin.references.set({ svn: ["1"] }, { expiresAt: new Date("2099-01-01") }),
      () => admin.audit.verify(),
      () => admin.system.describe(),
      () => admin.getResource("kbs:///default/key/one"),
    ])
      await expect(asked()).rejects.toMatchObject({
        code: "ERR_KBS_REQUEST_REFUSED",
        message: expect.stringContaining("not ociseal") as unknown,
      });
  });

  it.each(["local_fs", "local_json"] as const)("writes a %s store that is taken over", async (store) => {
    const source = await startTrustee({ store });
    const filling = connectKbsAdmin({ url: source.url, tls, token: source.token() });
    const value = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await filling.putResource("kbs:///default/key/one", value);
    await filling.putResource("kbs:///d.e-f_g/key/v1.2", value);
    await filling.policies.put({ id: "resource-policy", language: "rego", text: allowAll });
    await filling.references.set(sampleReference);
    // A session of a guest lies there too, and must not come along.
    await connectKbs({ url: source.url, tls, attester: sampleAttester() }).attestationToken();
    await filling.close();
    const bench = await startBench({ policyEngines });
    const report = await importTrusteeData(source.data, bench.admin);
    await source.stop();
    expect(report).toEqual({ imported: 8, present: 0, skipped: [] });
    for (const path of ["default/key/one", "d.e-f_g/key/v1.2"]) expect(await bench.guest.fetchResource(`kbs:///${path}`)).toEqual(value);
    expect((await bench.admin.policies.get("resource-policy")).text).toBe(allowAll);
    expect((await bench.admin.attestationPolicies.list()).map(({ id }) => id).sort()).toEqual(
      ["cpu", "gpu", "ppcie", "switch"].map((device) => `default_${device}`),
    );
    expect(await bench.admin.references.get("svn")).toEqual(["1"]);
    await bench.close();
  });
});

describe.skipIf(missingTrustee("kbs-client"))("Trustee's own client, at our service", () => {
  let bench: Bench;
  let folder: string;
  const config = (...args: string[]) =>
    kbsClient(["--url", bench.server.url, "config", "--admin-token-file", join(folder, "token"), ...args], folder);
  const client = (...args: string[]) => kbsClient(["--url", bench.server.url, ...args], folder);
  const ok = { status: 0 };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-client-"));
    bench = await startBench({ policyEngines });
    await writeFile(join(folder, "token"), bench.server.adminToken ?? "");
    await writeFile(join(folder, "value"), Buffer.from([0, 255, 10]));
    await writeFile(join(folder, "appraisal.rego"), appraisal);
    expect(await config("set-resource", "--path", "default/key/one", "--resource-file", "value")).toMatchObject(ok);
  });
  afterAll(async () => {
    await bench.close();
    await rm(folder, { recursive: true });
  });

  it("attests and gets a resource, with a key of its own too", async () => {
    expect(await client("get-resource", "--path", "default/key/one")).toEqual({ status: 0, output: "AP8K\n" });
    for (const curve of ["P-256", "P-521"] as const) {
      const { privateKey } = generateKeyPairSync("ec", { namedCurve: curve });
      await writeFile(join(folder, "tee.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
      const { output } = await client("attest", "--tee-key-file", "tee.pem");
      await writeFile(join(folder, "attested"), output.trim());
      const got = await client("get-resource", "--path", "default/key/one", "--tee-key-file", "tee.pem", "--attestation-token", "attested");
      expect(got, curve).toEqual({ status: 0, output: "AP8K\n" });
    }
  });

  it("is told that there is no such resource, and does not try again", async () => {
    const missing = await client("get-resource", "--path", "default/key/none");
    expect(missing).toMatchObject({ status: 1, output: expect.stringContaining("KBS resource not found") as unknown });
  });

  it("sets policies and reference values that decide", async () => {
    expect(await config("set-attestation-policy", "--policy-file", "appraisal.rego", "--id", "default_cpu")).toMatchObject(ok);
    expect(await config("set-resource-policy", "--affirming")).toMatchObject(ok);
    expect(await client("get-resource", "--path", "default/key/one")).toMatchObject({
      status: 1,
      output: expect.stringContaining("PolicyDeny") as unknown,
    });
    expect(await config("set-sample-reference-value", "svn", "1")).toMatchObject(ok);
    expect((await config("get-reference-value", "--id", "svn")).output).toContain('[\\"1\\"]');
    expect(await client("get-resource", "--path", "default/key/one")).toMatchObject(ok);
    for (const shipped of ["--default", "--deny-all", "--allow-all"])
      expect(await config("set-resource-policy", shipped)).toMatchObject(ok);
  });

  it("deletes, and reads our refusals", async () => {
    expect(await config("set-resource", "--path", "default/key/gone", "--resource-file", "value")).toMatchObject(ok);
    expect(await config("delete-resource", "--path", "default/key/gone")).toMatchObject(ok);
    expect((await config("delete-resource", "--path", "default/key/gone")).status).toBe(1);
    const without = await client("config", "set-resource", "--path", "default/key/x", "--resource-file", "value");
    expect(without).toMatchObject({ status: 1, output: expect.stringContaining("admin-token-missing") as unknown });
    expect(await readFile(join(folder, "value"))).toEqual(Buffer.from([0, 255, 10]));
  });
});
