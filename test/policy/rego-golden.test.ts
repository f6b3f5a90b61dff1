import { describe, expect, it } from "vitest";
import { compileRegoAppraisal, compileRegoRelease, type PolicyQuestion } from "../../src/policy/index.ts";

const now = new Date("2026-06-01T00:00:00Z");

function question(claims: Readonly<Record<string, unknown>>, plugin = "resource"): PolicyQuestion {
  return { plugin, resourcePath: ["default", "key", "1"], query: {}, claims, now };
}

function token(tee: string, status: string): Readonly<Record<string, unknown>> {
  return { submods: { cpu0: { "ear.status": status, "ear.veraison.annotated-evidence": { [tee]: { debug: false } } } } };
}

/** Written after what the policies shipped with Trustee are described to do; outcomes are those that OPA 1.4.2 gave for the originals. */
const releasePolicies = {
  default: `
    package policy
    import rego.v1

    default allow := false

    # Anything but the sample TEE.
    allow if {
      data.plugin == "resource"
      not input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sample"]
    }`,
  "allow all": `
    package policy
    default allow = false
    allow {
      data.plugin == "resource"
    }`,
  "deny all": `
    package policy
    default allow = false`,
  affirming: `
    package policy
    import rego.v1
    default allow = false
    allow if {
      count(input.submods) > 0
      not is_doubtful
    }
    is_doubtful if {
      some _, submod in input.submods
      submod["ear.status"] != "affirming"
    }`,
} as const;

describe("resource policies of Trustee decide as under OPA", () => {
  const asked = {
    "sample TEE": question(token("sample", "contraindicated")),
    "snp contraindicated": question(token("snp", "contraindicated")),
    "snp affirming": question(token("snp", "affirming")),
    "no submods": question({}),
    "other plugin": question(token("snp", "affirming"), "nebula-ca"),
  } as const;
  const outcomes: Readonly<Record<keyof typeof releasePolicies, readonly boolean[]>> = {
    default: [false, true, true, true, false],
    "allow all": [true, true, true, true, false],
    "deny all": [false, false, false, false, false],
    affirming: [false, false, true, false, true],
  };
  for (const [name, text] of Object.entries(releasePolicies)) {
    it(`the policy ${name}`, () => {
      const policy = compileRegoRelease(text, "resource-policy");
      const decisions = Object.values(asked).map((one) => policy.evaluate(one));
      expect(decisions.map(({ allow }) => allow)).toEqual(outcomes[name as keyof typeof outcomes]);
      expect(decisions.every(({ reasons }) => reasons.length > 0)).toBe(true);
    });
  }
});

const defaultCpu = `
package policy
import rego.v1

default executables := 33
default hardware := 97
default configuration := 36
default unasserted := 0

trust_claims := {
  "executables": executables, "hardware": hardware, "configuration": configuration,
  "file-system": unasserted, "instance-identity": unasserted, "runtime-opaque": unasserted,
  "storage-opaque": unasserted, "sourced-data": unasserted,
}

executables := 3 if {
  input.sample
  input.sample.launch_digest in query_reference_value("launch_digest")
}
hardware := 2 if {
  input.sample.svn in query_reference_value("svn")
  input.sample.platform_version.major == query_reference_value("major_version")
  input.sample.platform_version.minor >= query_reference_value("minimum_minor_version")
}
configuration := 2 if input.sample.debug == false

executables := 3 if input.snp.measurement in query_reference_value("snp_launch_measurement")
hardware := 2 if {
  every name, claim in {"snp_bootloader": "bootloader", "snp_microcode": "microcode", "snp_snp_svn": "snp", "snp_tee_svn": "tee"} {
    input.snp[concat("_", ["reported_tcb", claim])] in query_reference_value(name)
  }
}
snp_is_closed if {
  input.snp.policy_debug_allowed == false
  input.snp.policy_migrate_ma == false
}
configuration := 2 if {
  snp_is_closed
  input.snp.platform_smt_enabled == query_reference_value("snp_smt_enabled")
  input.snp.platform_tsme_enabled == query_reference_value("snp_tsme_enabled")
  input.snp.policy_abi_major == query_reference_value("snp_guest_abi_major")
  input.snp.policy_abi_minor == query_reference_value("snp_guest_abi_minor")
  input.snp.policy_single_socket == query_reference_value("snp_single_socket")
  input.snp.policy_smt_allowed == query_reference_value("snp_smt_allowed")
} else := 3 if snp_is_closed

rtmrs_ok if {
  input.tdx.quote.body.rtmr_1 in query_reference_value("rtmr_1")
  input.tdx.quote.body.rtmr_2 in query_reference_value("rtmr_2")
}
event_ok(kind, reference) if {
  event := input.tdx.uefi_event_logs[_]
  event.type_name == kind
  event.digests[_].digest == query_reference_value(reference)
}
executables := 3 if {
  rtmrs_ok
  event_ok("EV_EFI_BOOT_SERVICES_APPLICATION", "tdvfkernel")
  event_ok("EV_EVENT_TAG", "tdvfkernelparams")
}
else := 4 if rtmrs_ok
hardware := 2 if {
  input.tdx.quote.header.tee_type == "81000000"
  input.tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
  input.tdx.quote.body.mr_td in query_reference_value("mr_td")
  input.tdx.tcb_status == "UpToDate"
  input.tdx.collateral_expiration_status == "0"
}
configuration := 2 if {
  input.tdx.td_attributes.debug == false
  input.tdx.quote.body.xfam in query_reference_value("xfam")
}

hardware := 2 if input.se
executables := 3 if input.se
configuration := 2 if input.se
hardware := 2 if input.tpm
configuration := 0 if input.tpm

extensions := [{"name": "ear.trustee.identifiers", "key": -18, "value": {"validated": identifiers}}]
identifiers := object.union_n([images, uids])
containers := input.init_data_claims.agent_policy_claims.containers
names := [name | name := containers[_].OCI.Annotations["io.kubernetes.cri.image-name"]]
images := {"container_images": names} if count(names) > 0
else := {}
users := [user | user := containers[_].OCI.Process.User.UID]
uids := {"container_uids": users} if {
  count(users) > 0
} else := {}
`;

describe("the default attestation policy for CPUs appraises as under OPA", () => {
  const policy = compileRegoAppraisal(defaultCpu, "default_cpu");

  function vector(input: Readonly<Record<string, unknown>>, references: Readonly<Record<string, unknown>> = {}): readonly unknown[] {
    const { vector: claims } = policy.appraise({ input, now, referenceValue: (name) => references[name] });
    return [claims.configuration, claims.executables, claims.hardware];
  }

  const sample = { svn: "1", launch_digest: "abcde", platform_version: { major: 1, minor: 4 }, debug: false };
  const snp = {
    policy_debug_allowed: false,
    policy_migrate_ma: false,
    policy_abi_major: 1,
    policy_abi_minor: 55,
    policy_single_socket: false,
    policy_smt_allowed: true,
    platform_smt_enabled: true,
    platform_tsme_enabled: false,
    measurement: "cd".repeat(48),
    reported_tcb_bootloader: 4,
    reported_tcb_microcode: 213,
    reported_tcb_snp: 22,
    reported_tcb_tee: 0,
  };
  const snpValues = {
    snp_launch_measurement: [snp.measurement],
    snp_bootloader: [3, 4],
    snp_microcode: [213],
    snp_snp_svn: [22],
    snp_tee_svn: [0],
  };
  const tdx = {
    quote: {
      header: { tee_type: "81000000", vendor_id: "939a7233f79c4ca9940a0db3957f0607" },
      body: { rtmr_1: "01", rtmr_2: "02", mr_td: "03", xfam: "e702060000000000" },
    },
    td_attributes: { debug: false },
    tcb_status: "UpToDate",
    collateral_expiration_status: "0",
    uefi_event_logs: [
      { type_name: "EV_EFI_BOOT_SERVICES_APPLICATION", digests: [{ alg: "SHA-384", digest: "aa" }] },
      { type_name: "EV_EVENT_TAG", digests: [{ alg: "SHA-384", digest: "bb" }] },
    ],
  };
  const tdxValues = { rtmr_1: ["01"], rtmr_2: ["02"], mr_td: ["03"], xfam: ["e702060000000000"] };

  it("sample without reference values is contraindicated", () => expect(vector({ sample })).toEqual([2, 33, 97]));
  it("sample with reference values is affirming", () => {
    const values = { svn: ["1"], launch_digest: ["abcde"], major_version: 1, minimum_minor_version: 4 };
    expect(vector({ sample }, values)).toEqual([2, 3, 2]);
    expect(vector({ sample: { ...sample, platform_version: { major: 1, minor: 3 } } }, values)).toEqual([2, 3, 97]);
  });
  it("snp without reference values", () => expect(vector({ snp })).toEqual([3, 33, 97]));
  it("snp with measurement and TCB values", () => expect(vector({ snp }, snpValues)).toEqual([3, 3, 2]));
  it("snp with every configuration field as registered", () => {
    const exact = {
      snp_smt_enabled: true,
      snp_tsme_enabled: false,
      snp_guest_abi_major: 1,
      snp_guest_abi_minor: 55,
      snp_single_socket: false,
      snp_smt_allowed: true,
    };
    expect(vector({ snp }, { ...snpValues, ...exact })).toEqual([2, 3, 2]);
    expect(vector({ snp }, { ...snpValues, ...exact, snp_smt_allowed: false })).toEqual([3, 3, 2]);
  });
  it("snp with debug allowed is not affirming", () =>
    expect(vector({ snp: { ...snp, policy_debug_allowed: true } }, snpValues)).toEqual([36, 3, 2]));
  it("tdx with the two boot events, and without", () => {
    expect(vector({ tdx }, { ...tdxValues, tdvfkernel: "aa", tdvfkernelparams: "bb" })).toEqual([2, 3, 2]);
    expect(vector({ tdx }, tdxValues)).toEqual([2, 4, 2]);
    expect(vector({ tdx: { ...tdx, tcb_status: "OutOfDate" } }, tdxValues)).toEqual([2, 4, 97]);
    expect(vector({ tdx }, {})).toEqual([36, 33, 97]);
  });
  it("se and tpm are taken at the verifier's word", () => {
    expect(vector({ se: { version: 1 } })).toEqual([2, 3, 2]);
    expect(vector({ tpm: {} })).toEqual([0, 33, 2]);
  });
  it("an unknown TEE is recognised by nothing", () => expect(vector({ cca: {} })).toEqual([36, 33, 97]));

  it("gives every claim of the vector, and says which are not affirming", () => {
    const { vector: claims, reasons } = policy.appraise({ input: { sample }, now, referenceValue: () => undefined });
    expect(Object.keys(claims)).toHaveLength(8);
    expect(reasons).toEqual(["the policy gives executables the value 33", "the policy gives hardware the value 97"]);
  });

  it("names images and users of containers that the init-data bind", () => {
    const container = (image: string, uid: number) => ({
      OCI: { Annotations: { "io.kubernetes.cri.image-name": image }, Process: { User: { UID: uid } } },
    });
    const input = { sample, init_data_claims: { agent_policy_claims: { containers: [container("pause", 65535), container("app", 0)] } } };
    const appraise = (asked: Readonly<Record<string, unknown>>) =>
      policy.appraise({ input: asked, now, referenceValue: () => undefined }).extensions;
    expect(appraise(input)).toEqual({
      "ear.trustee.identifiers": { validated: { container_images: ["pause", "app"], container_uids: [65535, 0] } },
    });
    expect(appraise({ sample, init_data_claims: null })).toEqual({ "ear.trustee.identifiers": { validated: {} } });
  });
});
