import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compileJsonPolicy, PolicyError, type PolicyQuestion } from "../../src/policy/index.ts";

const now = new Date("2026-06-01T00:00:00Z");
const hash = "ab".repeat(48);

function question(tee: string, claims: object, extra: object = {}): PolicyQuestion {
  return {
    plugin: "resource",
    resourcePath: ["default", "app-key", "1"],
    query: {},
    claims: { submods: { cpu0: { "ear.status": "affirming", "ear.veraison.annotated-evidence": { [tee]: claims, ...extra } } } },
    now,
  };
}

const snp = {
  measurement: hash,
  debug: false,
  reported_tcb_snp: 22,
  reported_tcb_bootloader: 4,
  reported_tcb_tee: 0,
  reported_tcb_microcode: 200,
};
const tdx = { quote: { body: { mr_td: hash, tcb_svn: "0304".padEnd(32, "0") } }, debug: false, tcb_status: "UpToDate", secureBoot: true };

function decide(policy: object, asked: PolicyQuestion): readonly string[] | "allow" {
  const { allow, reasons } = compileJsonPolicy(JSON.stringify({ version: 1, ...policy })).evaluate(asked);
  return allow ? "allow" : reasons;
}

function compiled(text: string): unknown {
  try {
    return compileJsonPolicy(text);
  } catch (error) {
    return error;
  }
}

describe("a JSON policy", () => {
  it.each([
    ["a measurement that is allowed", { allowed_measurements: [`sha384:${hash}`] }, question("snp", snp)],
    ["a TEE that is named", { tee: ["tdx"], min_tcb_level: { tdx_tcb: "0x03000000", tcb_status: "UpToDate" } }, question("tdx", tdx)],
    ["secure boot that is proved", { require_secure_boot: true }, question("tdx", tdx)],
    ["numbers at the minimum", { min_tcb_level: { snp_snp: 22 } }, question("snp", snp)],
    ["its own resources", { resources: "default/app-*/*" }, question("snp", snp)],
    ["everything below a prefix", { resources: "default/**" }, question("snp", snp)],
    [
      "the sample TEE when it is named",
      { tee: ["sample"], allowed_measurements: ["abcde"] },
      question("sample", { launch_digest: "abcde", debug: false }),
    ],
    ["init-data that is bound", { init_data: ["c0ffee"] }, question("snp", snp, { init_data: "c0ffee".padEnd(64, "0") })],
  ])("allows %s", (_what, policy, asked) => {
    expect(decide(policy, asked)).toBe("allow");
  });

  it.each([
    ["another measurement", { allowed_measurements: ["00".repeat(48)] }, question("snp", snp), "is not among the 1 allowed"],
    ["any measurement of an empty list", { allowed_measurements: [] }, question("snp", snp), "is not among the 0 allowed"],
    ["another TEE", { tee: ["tdx"] }, question("snp", snp), "cpu0 is snp, the policy allows tdx"],
    ["the sample TEE when it is not named", {}, question("sample", { launch_digest: "abcde", debug: false }), "cpu0 is sample"],
    ["debugging", {}, question("snp", { ...snp, debug: true }), "allows debugging"],
    ["debugging that is not disproved", {}, question("snp", { measurement: hash }), "nothing proves"],
    ["no secure boot on SNP", { require_secure_boot: true }, question("snp", snp), "an SNP report alone cannot"],
    [
      "a component below the minimum",
      { min_tcb_level: { tdx_tcb: "0x0400" } },
      question("tdx", tdx),
      "component 0 at 3, the policy needs 4",
    ],
    ["a number below the minimum", { min_tcb_level: { snp_snp: 23 } }, question("snp", snp), "snp_snp 22, the policy needs 23"],
    [
      "a worse status",
      { min_tcb_level: { tcb_status: "UpToDate" } },
      question("tdx", { ...tdx, tcb_status: "OutOfDate" }),
      "TCB status OutOfDate",
    ],
    [
      "an unknown status",
      { min_tcb_level: { tcb_status: "UpToDate" } },
      question("tdx", { ...tdx, tcb_status: "Fine" }),
      "TCB status Fine",
    ],
    [
      "an out-of-date platform though its measurement is allowed",
      { allowed_measurements: [hash] },
      question("tdx", { ...tdx, tcb_status: "OutOfDate" }),
      "TCB status OutOfDate, the policy needs UpToDate",
    ],
    [
      "a platform without a status beside a minimum of components",
      { min_tcb_level: { tdx_tcb: "0x03" } },
      question("tdx", { ...tdx, tcb_status: undefined }),
      "TCB status (none)",
    ],
    ["another resource", { resources: "default/other/*" }, question("snp", snp), "not for default/app-key/1"],
    [
      "images that were not measured",
      { images: { digests: [`sha256:${"0".repeat(64)}`] } },
      question("snp", snp),
      "nothing proves which images",
    ],
    ["other init-data", { init_data: ["beef"] }, question("snp", snp, { init_data: "c0ffee" }), "other init-data"],
    ["a policy that ended", { not_after: "2026-01-01T00:00:00Z" }, question("snp", snp), "the policy ended"],
  ])("denies %s, and says so", (_what, policy, asked, reason) => {
    expect(JSON.stringify(decide(policy, asked))).toContain(reason);
  });

  it("denies a token without devices, with devices of two TEEs at once, and another plugin", () => {
    expect(decide({}, { ...question("snp", snp), claims: {} })).toEqual(["the token names no attested processor"]);
    expect(decide({}, question("snp", snp, { tdx }))).not.toBe("allow");
    expect(decide({}, { ...question("snp", snp), plugin: "pkcs11" })).not.toBe("allow");
  });

  it.each([
    ["an unknown member", { allowed_measurement: [] }, "policy.allowed_measurement"],
    ["an unknown TEE", { tee: ["tdx", "sev"] }, "policy.tee[1]"],
    ["another version", { version: 2 }, "policy.version"],
    ["a flag as text", { enforce_debug_disabled: "yes" }, "policy.enforce_debug_disabled"],
    ["an unknown level", { min_tcb_level: { foo: 1 } }, "policy.min_tcb_level.foo"],
    ["a level of the wrong kind", { min_tcb_level: { snp_snp: "0x03" } }, "policy.min_tcb_level.snp_snp"],
    ["a date that is none", { not_after: "soon" }, "policy.not_after"],
    ["a digest that is none", { images: { digests: ["latest"] } }, "policy.images.digests[0]"],
  ])("refuses %s at upload, with its path", (_what, policy, path) => {
    expect(() => compileJsonPolicy(JSON.stringify({ version: 1, ...policy }))).toThrow(
      expect.objectContaining({ code: "ERR_POLICY_NOT_UNDERSTOOD", details: { path } }) as Error,
    );
  });

  it("throws its own error for whatever is no policy", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        // No random document has a version of 1 and nothing unknown.
        expect(compiled(text)).toBeInstanceOf(PolicyError);
      }),
    );
  });

  it("never throws for claims of any shape", () => {
    const policy = compileJsonPolicy('{"version":1,"min_tcb_level":{"tdx_tcb":"03"},"images":{"digests":[]},"init_data":["aa"]}');
    fc.assert(
      fc.property(
        fc.object({
          key: fc.constantFrom("submods", "cpu0", "tdx", "snp", "quote", "body", "ear.veraison.annotated-evidence", "uefi_event_logs"),
          maxDepth: 6,
        }),
        (claims) => {
          expect(policy.evaluate({ ...question("snp", snp), claims }).allow).toBe(false);
        },
      ),
    );
  });
});
