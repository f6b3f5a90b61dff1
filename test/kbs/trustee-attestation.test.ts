import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sampleAttester, type Attester } from "../../src/attestation/index.ts";
import { cocoAttestationService, connectKbs, type KbsClient } from "../../src/kbs/index.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { kbsClient, missingTrustee, startTrusteeAttestation } from "../trustee.ts";
import { startBench, type Bench } from "./harness.ts";

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
