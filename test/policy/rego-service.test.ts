import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { policyEngines } from "../../cli/policy-engines.ts";
import { handshake, payloadOf, raw, startBench, type Bench } from "../kbs/harness.ts";

describe("a service that takes policies in Rego", () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = await startBench({ policyEngines });
    await bench.admin.putResource("kbs:///default/key/1", Buffer.from("a secret"));
  });
  afterAll(() => bench.close());

  const resource = async (token: string): Promise<number> =>
    (await raw(`${bench.server.url}/kbs/v0/resource/default/key/1`, { headers: { authorization: `Bearer ${token}` } })).status;

  it("appraises and releases by uploaded policies, with reference values and extensions", async () => {
    await bench.admin.attestationPolicies.put({
      id: "default_cpu",
      language: "rego",
      text: `package policy
        import rego.v1
        default executables := 33
        executables := 3 if input.sample.launch_digest in query_reference_value("launch_digest")
        trust_claims := {"executables": executables, "hardware": 2, "configuration": 2}
        extensions := [{"name": "ear.trustee.identifiers", "key": -18, "value": {"nonces": [input.runtime_data_claims.nonce]}}]`,
    });
    await bench.admin.policies.put({
      id: "resource-policy",
      language: "rego",
      text: `package policy
        default allow = false
        allow {
          data.plugin == "resource"
          data["resource-path"] == ["default", "key", "1"]
          input.submods.cpu0["ear.status"] == "affirming"
        }`,
    });
    const before = await handshake(bench.server.url);
    expect(payloadOf(before.token)["submods"]).toMatchObject({
      cpu0: { "ear.status": "warning", "ear.appraisal-policy-id": "default_cpu" },
    });
    expect(await resource(before.token)).toBe(403);

    await bench.admin.references.set({ launch_digest: ["abcde"] });
    const after = await handshake(bench.server.url);
    expect(payloadOf(after.token)["submods"]).toMatchObject({
      cpu0: { "ear.status": "affirming", "ear.trustee.identifiers": { nonces: [after.challenge.json["nonce"]] } },
    });
    expect(await resource(after.token)).toBe(200);
  });

  it("refuses what it does not understand with the place, and keeps the former policy", async () => {
    const put = bench.admin.policies.put({ id: "resource-policy", language: "rego", text: "package policy\nallow if http.send({}).ok" });
    await expect(put).rejects.toMatchObject({ message: expect.stringContaining("line 2, column 10: the function http.send") });
    expect((await bench.admin.policies.get("resource-policy")).text).toContain("ear.status");
  });

  it("issues no token when the attestation policy cannot be evaluated", async () => {
    await bench.admin.attestationPolicies.put({
      id: "default_cpu",
      language: "rego",
      text: 'package policy\ntrust_claims := {"hardware": 2} if input.sample\ntrust_claims := {"hardware": 3} if input.sample',
    });
    const { answer } = await handshake(bench.server.url);
    expect([answer.status, answer.json["token"]]).toEqual([500, undefined]);
  });
});
