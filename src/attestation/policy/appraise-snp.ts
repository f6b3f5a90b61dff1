import { reachesTcb, tcbComponents, type AmdTcb } from "../amd/products.ts";
import { describeTcb, type VerifiedSnpReport } from "../amd/verify.ts";
import type { FindingCode } from "../findings.ts";
import { uncheckedFacts, type Appraiser } from "./appraiser.ts";
import type { CollateralRules, PerProduct, SnpRules } from "./schema.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** Everything about an SNP guest; gives whether a measurement identified it. */
export function appraiseSnp(verified: VerifiedSnpReport, rules: SnpRules, collateral: CollateralRules, appraiser: Appraiser): boolean {
  const { report, product, endorsements } = verified;
  const path = "policy.snp";
  appraiser.constrain({
    code: "POLICY_PRODUCT",
    path: `${path}.products`,
    what: "the product",
    constraint: rules.products,
    actual: product,
  });
  appraiser.constrain({
    code: "POLICY_PRODUCT",
    path: `${path}.signer`,
    what: "the kind of endorsement key",
    constraint: rules.signer,
    actual: endorsements.key.kind,
  });
  if (endorsements.key.cspId !== undefined || rules.cspId?.kind === "one-of") {
    appraiser.constrain({
      code: "POLICY_HOST",
      path: `${path}.cspId`,
      what: "the cloud of the VLEK",
      constraint: rules.cspId,
      actual: endorsements.key.cspId ?? "none",
    });
  }
  appraiser.constrain({ code: "POLICY_VMPL", path: `${path}.vmpl`, what: "the VMPL", constraint: rules.vmpl, actual: report.vmpl });
  appraiseRevocation(verified, collateral, appraiser);
  appraiseTcbs(verified, rules, appraiser);
  appraiseFirmware(verified, rules, appraiser);
  appraiseGuest(verified, rules, appraiser);
  appraisePlatform(verified, rules, appraiser);
  if (verified.chipIdMasked && endorsements.key.kind === "VCEK") {
    appraiser.expect(rules.allowMaskedChipId, "POLICY_HOST", {
      path: `${path}.allowMaskedChipId`,
      message: "the chip id is masked, so nothing ties the report to the chip of the VCEK",
    });
  }
  const compare = (code: FindingCode, name: string, what: string, constraint: SnpRules["measurement"], actual: Buffer) =>
    appraiser.constrain({ code, path: `${path}.${name}`, what, constraint, actual: hex(actual) });
  compare("POLICY_MEASUREMENT", "familyId", "FAMILY_ID", rules.familyId, report.familyId);
  compare("POLICY_MEASUREMENT", "imageId", "IMAGE_ID", rules.imageId, report.imageId);
  compare("POLICY_INIT_DATA", "hostData", "HOST_DATA (init-data)", rules.hostData, report.hostData);
  compare("POLICY_MEASUREMENT", "reportId", "REPORT_ID", rules.reportId, report.reportId);
  const idKey = compare("POLICY_SIGNER", "idKeyDigest", "ID_KEY_DIGEST", rules.idKeyDigest, report.idKeyDigest);
  const authorKey = compare("POLICY_SIGNER", "authorKeyDigest", "AUTHOR_KEY_DIGEST", rules.authorKeyDigest, report.authorKeyDigest);
  const measurement = compare("POLICY_MEASUREMENT", "measurement", "MEASUREMENT", rules.measurement, report.measurement);
  return measurement || idKey || authorKey;
}

function appraiseRevocation({ endorsements }: VerifiedSnpReport, { revocation }: CollateralRules, appraiser: Appraiser): void {
  if (endorsements.crl !== undefined) return;
  const path = "policy.collateral.revocation";
  if (revocation === "require") {
    appraiser.refuse("POLICY_REVOCATION", {
      path,
      message: "no AMD revocation list was given",
      hint: "give it with --crl, or fetch it: ociseal attest collateral fetch",
    });
  } else if (revocation !== undefined) {
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts(path, "revocation of AMD's certificates", revocation));
  }
}

function appraiseTcbs({ tcbs, product }: VerifiedSnpReport, rules: SnpRules, appraiser: Appraiser): void {
  const { minTcb } = rules;
  if (minTcb === undefined) {
    appraiser.warn("POLICY_NO_MINIMUM_TCB", {
      path: "policy.snp.minTcb",
      message: "the policy gives no minimum TCB, and AMD publishes no verdict: outdated firmware would pass",
      actual: describeTcb(tcbs.reported),
      hint: "take the minimums from AMD's security bulletins, per product",
    });
  } else if ("kind" in minTcb) {
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts("policy.snp.minTcb", "the minimum TCB", minTcb));
  } else {
    appraiseMinimum("minTcb", "reported", minTcb);
  }
  if (rules.minLaunchTcb !== undefined) appraiseMinimum("minLaunchTcb", "launch", rules.minLaunchTcb);
  if (rules.minCommittedTcb !== undefined) appraiseMinimum("minCommittedTcb", "committed", rules.minCommittedTcb);

  function appraiseMinimum(name: string, word: "reported" | "launch" | "committed", minimums: PerProduct<Partial<AmdTcb>>): void {
    const minimum = minimums[product];
    const path = `policy.snp.${name}.${product}`;
    if (minimum === undefined) {
      appraiser.refuse("POLICY_TCB_MINIMUM", {
        path,
        message: `the policy has no minimum TCB for ${product}`,
        hint: `add one to policy.snp.${name}, or leave the product out of policy.snp.products`,
      });
      return;
    }
    const have = tcbs[word];
    const lacking = tcbComponents.flatMap((component) =>
      (have[component] ?? 0) >= (minimum[component] ?? 0)
        ? []
        : [`${component}: have ${have[component] ?? 0}, need ${minimum[component] ?? 0}`],
    );
    appraiser.expect(reachesTcb(have, minimum), "POLICY_TCB_MINIMUM", {
      path,
      message: `the ${word} TCB is below the policy's minimum: ${lacking.join("; ")}`,
      expected: describeTcb(minimum),
      actual: describeTcb(have),
      hint: "the host must update its firmware (and, for the reported TCB, commit it)",
    });
  }
}

function appraiseFirmware(verified: VerifiedSnpReport, rules: SnpRules, appraiser: Appraiser): void {
  const { report } = verified;
  const { major, minor, build } = report.committedFirmware;
  appraiser.expect(!verified.provisionalFirmware || rules.provisionalFirmware, "POLICY_FIRMWARE", {
    path: "policy.snp.provisionalFirmware",
    message: "the platform runs provisional firmware, which its operator can still roll back",
    hint: "the host must commit its firmware (SNP_COMMIT)",
  });
  if (rules.minAbi !== undefined) {
    appraiser.expect(major > rules.minAbi.major || (major === rules.minAbi.major && minor >= rules.minAbi.minor), "POLICY_FIRMWARE", {
      path: "policy.snp.minAbi",
      message: "the committed firmware's ABI is older than the policy allows",
      expected: `${rules.minAbi.major}.${rules.minAbi.minor}`,
      actual: `${major}.${minor}`,
    });
  }
  if (rules.minBuild !== undefined) {
    appraiser.expect(build >= rules.minBuild, "POLICY_FIRMWARE", {
      path: "policy.snp.minBuild",
      message: "the committed firmware's build is older than the policy allows",
      expected: String(rules.minBuild),
      actual: String(build),
    });
  }
  if (rules.mitigations !== undefined) {
    for (const [name, have] of [
      ["launch", report.launchMitigations],
      ["current", report.currentMitigations],
    ] as const) {
      const need = rules.mitigations[name];
      appraiser.expect(((have ?? 0n) & need) === need, "POLICY_MITIGATIONS", {
        path: `policy.snp.mitigations.${name}`,
        message:
          have === undefined
            ? "the report is older than version 5 and names no mitigations"
            : `the ${name} mitigations lack some that the policy wants`,
        expected: `0x${need.toString(16)}`,
        actual: have === undefined ? "none" : `0x${have.toString(16)}`,
      });
    }
  }
}

function appraiseGuest({ report }: VerifiedSnpReport, rules: SnpRules, appraiser: Appraiser): void {
  const { policy } = report;
  const path = "policy.snp.guestPolicy";
  const actual = `0x${policy.value.toString(16)}`;
  appraiser.expect(!policy.debugAllowed || rules.guestPolicy.allowDebug, "POLICY_DEBUG", {
    path: `${path}.allowDebug`,
    message: "the guest can be debugged by its host (POLICY bit 19)",
    actual,
    hint: "launch the guest without the debug policy bit",
  });
  appraiser.expect(!policy.migrateMaAllowed || rules.guestPolicy.allowMigrationAgent, "POLICY_MIGRATION", {
    path: `${path}.allowMigrationAgent`,
    message: "a migration agent may be associated with the guest (POLICY bit 18)",
    actual,
  });
  appraiser.expect(!policy.smtAllowed || rules.guestPolicy.allowSmt, "POLICY_GUEST", {
    path: `${path}.allowSmt`,
    message: "the guest allows SMT (POLICY bit 16)",
    actual,
  });
  appraiser.expect(policy.singleSocket || !rules.guestPolicy.requireSingleSocket, "POLICY_GUEST", {
    path: `${path}.requireSingleSocket`,
    message: "the guest may run on several sockets (POLICY bit 20)",
    actual,
  });
  appraiser.expect(policy.ciphertextHiding || !rules.guestPolicy.requireCiphertextHiding, "POLICY_GUEST", {
    path: `${path}.requireCiphertextHiding`,
    message: "the guest does not require ciphertext hiding (POLICY bit 24)",
    actual,
  });
  if (rules.minGuestSvn !== undefined) {
    appraiser.expect(report.guestSvn >= rules.minGuestSvn, "POLICY_TCB_MINIMUM", {
      path: "policy.snp.minGuestSvn",
      message: "the guest's SVN is below the policy's minimum",
      expected: String(rules.minGuestSvn),
      actual: String(report.guestSvn),
    });
  }
  appraiser.expect(!rules.requireSecureBoot, "POLICY_SECURE_BOOT", {
    path: "policy.require_secure_boot",
    message: "an SNP report cannot prove secure boot: it measures the launch and has no event log",
    hint: "constrain the measurement of a firmware that enforces secure boot, and leave require_secure_boot out for SNP",
  });
}

function appraisePlatform({ report }: VerifiedSnpReport, { platform }: SnpRules, appraiser: Appraiser): void {
  const { platformInfo } = report;
  const path = "policy.snp.platform";
  const actual = `0x${platformInfo.value.toString(16)}`;
  appraiser.expect(platformInfo.aliasCheckComplete || !platform.requireAliasCheck, "POLICY_PLATFORM", {
    path: `${path}.requireAliasCheck`,
    message: "the check against memory aliasing (BadRAM) has not run (PLATFORM_INFO bit 5)",
    actual,
  });
  appraiser.expect(platformInfo.eccEnabled || !platform.requireEcc, "POLICY_PLATFORM", {
    path: `${path}.requireEcc`,
    message: "the platform runs without ECC memory (PLATFORM_INFO bit 2)",
    actual,
  });
  appraiser.expect(platformInfo.tsmeEnabled || !platform.requireTsme, "POLICY_PLATFORM", {
    path: `${path}.requireTsme`,
    message: "the platform runs without TSME (PLATFORM_INFO bit 1)",
    actual,
  });
  appraiser.expect(!platformInfo.smtEnabled || platform.allowSmt, "POLICY_PLATFORM", {
    path: `${path}.allowSmt`,
    message: "the platform runs with SMT (PLATFORM_INFO bit 0)",
    actual,
  });
}
