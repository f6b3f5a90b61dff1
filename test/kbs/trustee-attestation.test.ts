import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sampleAttester, type Attester } from "../../src/attestation/index.ts";
import { cocoAttestationService, connectKbs, connectKbsAdmin, type KbsClient } from "../../src/kbs/index.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { kbsClient, missingTrustee, startTrustee, startTrusteeAttestation } from "../trustee.ts";
import { raw, startBench, type Bench } from "./harness.ts";

const initData = { format: "toml", body: 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"aa.toml" = "[x]\\ny = 1\\n"\n' } as const;

describe.skipIf(missingTrustee("restful-as"))("Trustee's real attestation service behind ours", () => {
  let attestation: Awaited<ReturnType<typeof startTrusteeAttestation>>;
  let bench: Bench;
  const closing: (() => Promise<void>)[] = [];
  const guestWith = (more: Partial<Parameters<typeof connectKbs>[0]> = {}): KbsClient => {
    const made = connectKbs({ url: bench.server.url, attester: sampleAttester(), ...more });
    closing.push(() => made.close());
    return made;
  };

  beforeAll(async () => {
    attestation = await startTrusteeAttestation();
    const service = cocoAttestationService({ url: attestation.url, policyIds: ["default"], authorities: caCertificate });
    bench = await startBench({ attestation: service, foreignTokens: service });
    await bench.admin.putResource("kbs:///default/key/one", Buffer.from("1"));
  });
  afterAll(async () => {
    for (const close of closing) await close();
    await bench.close();
    await attestation.stop();
  });

  it("judges the evidence, and its token opens resources and carries the init-data", async () => {
    const guest = guestWith({ initData });
    expect((await guest.fetchResource("kbs:///default/key/one")).toString()).toBe("1");
    const [, payload = ""] = (await guest.attestationToken()).split(".");
    expect(JSON.parse(Buffer.from(payload, "base64url").toString())).toMatchObject({
      submods: {
        cpu0: {
          "ear.status": "contraindicated",
          "ear.veraison.annotated-evidence": { sample: { svn: "1" }, init_data_claims: { "aa.toml": { x: { y: 1 } } } },
        },
      },
    });
  });

  it.skipIf(missingTrustee("kbs-client"))("judges that of Trustee's own client", async () => {
    const folder = await mkdtemp(join(tmpdir(), "kbs-client-"));
    const got = await kbsClient(["--url", bench.server.url, "get-resource", "--path", "default/key/one", initData.body], folder);
    await rm(folder, { recursive: true });
    expect(got).toEqual({ status: 0, output: "MQ==\n" });
  });

  it("refuses evidence of another handshake, in its own words", async () => {
    const stale: Attester = { ...sampleAttester(), collect: () => sampleAttester().collect(Buffer.alloc(64, 1)) };
    await expect(guestWith({ attester: stale }).attestationToken()).rejects.toMatchObject({
      code: "ERR_KBS_ATTESTATION_REFUSED",
      message: expect.stringContaining("REPORT_DATA") as unknown,
    });
  });

  it("that is gone is an outage, and no refusal", async () => {
    await attestation.kill();
    await expect(guestWith().attestationToken()).rejects.toMatchObject({ code: "ERR_KBS_OVERLOADED" });
  });
});

describe.skipIf(missingTrustee("kbs") || missingTrustee("kbs-client"))("an attestation token of ours, at the real Trustee", () => {
  it("opens a resource where our certificate is trusted", async () => {
    const folder = await mkdtemp(join(tmpdir(), "kbs-passport-"));
    const bench = await startBench();
    const { json } = await raw(`${bench.server.url}/.well-known/jwks.json`);
    const [key] = json["keys"] as readonly { readonly x5c: readonly string[] }[];
    const certificate = new X509Certificate(Buffer.from(key?.x5c.at(-1) ?? "", "base64")).toString();
    const trustee = await startTrustee({ tokensOf: certificate });
    const admin = connectKbsAdmin({ url: trustee.url, tls: { authorities: caCertificate }, token: trustee.token() });
    await admin.putResource("kbs:///default/key/one", Buffer.from("1"));
    const policy = 'package policy\nimport rego.v1\ndefault allow := false\nallow if input.submods.cpu0["ear.status"] == "affirming"\n';
    await admin.policies.put({ id: "resource-policy", language: "rego", text: policy });
    await admin.close();
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    await writeFile(join(folder, "tee.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
    await writeFile(join(folder, "ca.pem"), caCertificate);
    const get = async (): Promise<{ readonly status: number; readonly output: string }> => {
      const { output } = await kbsClient(["--url", bench.server.url, "attest", "--tee-key-file", "tee.pem"], folder);
      await writeFile(join(folder, "token"), output.trim());
      const at = ["--url", trustee.url, "--cert-file", "ca.pem"];
      return kbsClient(
        [...at, "get-resource", "--path", "default/key/one", "--tee-key-file", "tee.pem", "--attestation-token", "token"],
        folder,
      );
    };
    expect((await get()).status).not.toBe(0);
    await bench.admin.references.set({ svn: ["1"], launch_digest: ["abcde"], major_version: 1, minimum_minor_version: 4 });
    expect(await get()).toEqual({ status: 0, output: "MQ==\n" });
    await trustee.stop();
    await bench.close();
    await rm(folder, { recursive: true });
  });
});
