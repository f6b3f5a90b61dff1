import { describe, expect, it } from "vitest";
import { affirmingPolicy, developmentPolicy } from "../../src/kbs/policies/default-release.ts";
import { defaultAppraisalPolicy } from "../../src/kbs/policies/default-appraisal.ts";
import { PolicyStore, type PolicyEngine } from "../../src/kbs/policies/policy-store.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { SealedRecords } from "../../src/kbs/keys/sealed-records.ts";
import { generateRootKey, openMemoryStore, statusOf, tierOf, type TeeName } from "../../src/kbs/index.ts";

describe("trust tiers", () => {
  it.each([
    [-128, "contraindicated"],
    [-97, "contraindicated"],
    [-96, "warning"],
    [-33, "warning"],
    [-32, "affirming"],
    [-2, "affirming"],
    [-1, "none"],
    [0, "none"],
    [1, "none"],
    [2, "affirming"],
    [31, "affirming"],
    [32, "warning"],
    [95, "warning"],
    [96, "contraindicated"],
    [127, "contraindicated"],
  ] as const)("%i is %s", (value, tier) => {
    expect(tierOf(value)).toBe(tier);
  });

  it("are as bad as the worst claim", () => {
    expect(statusOf({ hardware: 2, executables: 3 })).toBe("affirming");
    expect(statusOf({ hardware: 2, executables: 33 })).toBe("warning");
    expect(statusOf({ hardware: 97, executables: 3 })).toBe("contraindicated");
    expect(statusOf({})).toBe("none");
  });
});

// Outcomes of Trustee's default_cpu policy under a real OPA.
describe("the default appraisal", () => {
  const appraise = (tee: TeeName, claims: unknown, references: Record<string, unknown> = {}) => {
    const { vector } = defaultAppraisalPolicy().appraise({
      tee,
      deviceClass: "cpu",
      input: { [tee]: claims },
      now: new Date(),
      referenceValue: (name) => references[name],
    }) as { vector: Record<string, number> };
    return [vector["configuration"], vector["executables"], vector["hardware"]];
  };
  const sample = { svn: "1", launch_digest: "abcde", platform_version: { major: 1, minor: 4 }, debug: false };
  const snp = {
    measurement: "aa",
    policy_debug_allowed: 0,
    policy_migrate_ma: 0,
    reported_tcb_bootloader: 4,
    reported_tcb_microcode: 200,
    reported_tcb_snp: 20,
    reported_tcb_tee: 0,
  };
  const snpTcb = { snp_bootloader: [4], snp_microcode: [200], snp_snp_svn: [20], snp_tee_svn: [0] };
  const tdx = {
    quote: {
      header: { tee_type: "81000000", vendor_id: "939a7233f79c4ca9940a0db3957f0607" },
      body: { mr_td: "m", rtmr_1: "r1", rtmr_2: "r2", xfam: "x" },
    },
    tcb_status: "UpToDate",
    collateral_expiration_status: "0",
    td_attributes: { debug: false },
  };
  const tdxReferences = { mr_td: ["m"], rtmr_1: ["r1"], rtmr_2: ["r2"], xfam: ["x"] };

  it("of the sample TEE", () => {
    expect(appraise("sample", sample)).toEqual([2, 33, 97]);
    expect(appraise("sample", sample, { svn: ["1"], launch_digest: ["abcde"], major_version: 1, minimum_minor_version: 4 })).toEqual([
      2, 3, 2,
    ]);
    expect(appraise("sample", sample, { svn: ["1"], launch_digest: ["abcde"], major_version: 1, minimum_minor_version: 5 })).toEqual([
      2, 3, 97,
    ]);
  });

  it("of SNP", () => {
    expect(appraise("snp", snp)).toEqual([3, 33, 97]);
    expect(appraise("snp", snp, { snp_launch_measurement: ["aa"], ...snpTcb })).toEqual([3, 3, 2]);
    expect(appraise("snp", { ...snp, policy_debug_allowed: 1 }, { snp_launch_measurement: ["aa"], ...snpTcb })).toEqual([36, 3, 2]);
    expect(appraise("snp", { ...snp, policy_debug_allowed: true }, {})[0]).toBe(36);
    expect(appraise("snp", { ...snp, policy_debug_allowed: undefined }, {})[0]).toBe(36);
    expect(appraise("snp", snp, { snp_launch_measurement: ["aa"], ...snpTcb, snp_microcode: [201] })).toEqual([3, 3, 97]);
  });

  it("of TDX", () => {
    expect(appraise("tdx", tdx)).toEqual([36, 33, 97]);
    expect(appraise("tdx", tdx, tdxReferences)).toEqual([2, 4, 2]);
    const withEvents = {
      ...tdx,
      uefi_event_logs: [{ digests: [{ alg: "SHA-384", digest: "k" }] }, { digests: [{ alg: "SHA-384", digest: "p" }] }],
    };
    expect(appraise("tdx", withEvents, { ...tdxReferences, tdvfkernel: ["k"], tdvfkernelparams: ["p"] })).toEqual([2, 3, 2]);
    expect(appraise("tdx", { ...tdx, tcb_status: "OutOfDate" }, tdxReferences)).toEqual([2, 4, 97]);
    expect(appraise("tdx", { ...tdx, td_attributes: { debug: true } }, tdxReferences)).toEqual([36, 4, 2]);
  });

  it("of a device without a rule is contraindicated", () => {
    expect(statusOf(defaultAppraisalPolicyVector("cca"))).toBe("contraindicated");
  });

  function defaultAppraisalPolicyVector(tee: TeeName) {
    const result = defaultAppraisalPolicy().appraise({
      tee,
      deviceClass: "cpu",
      input: {},
      now: new Date(),
      referenceValue: () => undefined,
    });
    return (result as { vector: Record<string, number> }).vector;
  }
});

describe("the default release policy", () => {
  const input = (submods: unknown, plugin = "resource") => ({
    plugin,
    resourcePath: ["a", "b", "c"],
    query: {},
    claims: submods === undefined ? {} : { submods },
    now: new Date(),
  });
  const device = (status: string, tee = "snp") => ({ "ear.status": status, "ear.veraison.annotated-evidence": { [tee]: {} } });

  it.each([
    ["an affirming guest", { cpu0: device("affirming") }, true],
    ["a contraindicated guest", { cpu0: device("contraindicated") }, false],
    ["a guest with a warning", { cpu0: device("warning") }, false],
    ["a guest about which nothing was said", { cpu0: device("none") }, false],
    ["an affirming processor with a contraindicated GPU", { cpu0: device("affirming"), gpu0: device("contraindicated") }, false],
    ["a token without submods", undefined, false],
    ["a token with empty submods", {}, false],
    ["an unappraised sample TEE", { cpu0: device("contraindicated", "sample") }, false],
  ])("%s", async (_what, submods, allow) => {
    const decision = await affirmingPolicy().evaluate(input(submods));
    expect(decision.allow).toBe(allow);
    expect(decision.reasons.length > 0).toBe(!allow);
    expect((await affirmingPolicy().evaluate(input(submods, "nebula-ca"))).allow).toBe(false);
  });

  it("of development releases to the sample TEE and says that this proves nothing", async () => {
    expect(await developmentPolicy().evaluate(input({ cpu0: device("contraindicated", "sample") }))).toMatchObject({
      allow: true,
      reasons: [expect.stringContaining("proves nothing")],
    });
    expect((await developmentPolicy().evaluate(input({ cpu0: device("contraindicated") }))).allow).toBe(false);
    expect(
      (await developmentPolicy().evaluate(input({ cpu0: device("affirming"), gpu0: device("contraindicated", "sampledevice") }))).allow,
    ).toBe(false);
  });
});

describe("uploaded policies", () => {
  /** Allows or denies as its text says. */
  const engine: PolicyEngine = {
    language: "json",
    compileRelease: (text, id) => {
      if (text !== "allow" && text !== "deny") throw new Error("line 1: unknown word");
      return { id, digest: `sha256:${text}`, evaluate: () => ({ allow: text === "allow", reasons: [`${id} says ${text}`] }) };
    },
  };
  const open = async () =>
    new PolicyStore(new SealedRecords(openMemoryStore(), await Keyring.open(openMemoryStore(), [generateRootKey()])), [engine]);
  const by = { subject: "t", now: new Date() };
  const input = { plugin: "resource", resourcePath: [], query: {}, claims: {}, now: new Date() };

  it("govern by the pattern that fits most closely; equals must all allow", async () => {
    const store = await open();
    const put = (id: string, resources: string, text: string) =>
      store.put({ id, purpose: "release", language: "json", resources, text }, by);
    expect(await store.governing("a/b/c")).toBeUndefined();
    await put("all", "**", "deny");
    await put("team", "a/**", "allow");
    await put("one", "a/b/secret", "deny");
    await put("other", "a/*/shared", "deny");
    await put("another", "a/**", "allow");
    const decide = async (path: string) => (await store.governing(path))?.evaluate(input);
    expect(await decide("x/y/z")).toMatchObject({ allow: false, reasons: ["all says deny"] });
    expect(await decide("a/b/c")).toMatchObject({ allow: true });
    expect(await decide("a/b/secret")).toMatchObject({ allow: false, reasons: ["one says deny"] });
    expect(await decide("a/b/shared")).toMatchObject({ allow: false });
    await store.remove("release", "other");
    expect(await decide("a/b/shared")).toMatchObject({ allow: true });
  });

  it("are compiled before they are stored, and count their uploads", async () => {
    const store = await open();
    await expect(store.put({ id: "x", purpose: "release", language: "json", resources: "**", text: "maybe" }, by)).rejects.toThrow(
      "line 1",
    );
    expect(await store.list("release")).toEqual([]);
    await store.put({ id: "x", purpose: "release", language: "json", resources: "**", text: "allow" }, by);
    expect((await store.put({ id: "x", purpose: "release", language: "json", resources: "**", text: "deny" }, by)).version).toBe(2);
    expect((await store.read("release", "x"))?.text).toBe("deny");
    for (const id of ["../x", "", ".x", "a/b"])
      await expect(store.put({ id, purpose: "release", language: "json", resources: "**", text: "allow" }, by)).rejects.toThrow();
    await expect(store.put({ id: "x", purpose: "appraisal", language: "json", resources: "**", text: "allow" }, by)).rejects.toThrow(
      "cannot appraise",
    );
    await expect(store.put({ id: "x", purpose: "release", language: "rego", resources: "**", text: "package policy" }, by)).rejects.toThrow(
      "does not interpret",
    );
  });
});
