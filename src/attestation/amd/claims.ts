import type { JsonObject } from "../attester/json.ts";
import type { AmdTcb } from "./products.ts";
import type { FirmwareVersion, SnpReport } from "./report.ts";
import type { VerifiedSnpReport } from "./verify.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const version = ({ major, minor, build }: FirmwareVersion) => `${major}.${minor}.${build}`;

/** What a report says that needs no product, under the names of Trustee's `snp` verifier. Nothing here is proved by itself. */
export function reportClaims(report: SnpReport): JsonObject {
  const { policy, platformInfo } = report;
  return {
    version: report.version,
    guest_svn: report.guestSvn,
    vmpl: report.vmpl,
    policy: `0x${policy.value.toString(16)}`,
    policy_abi_major: policy.abiMajor,
    policy_abi_minor: policy.abiMinor,
    policy_smt_allowed: policy.smtAllowed,
    policy_migrate_ma: policy.migrateMaAllowed,
    policy_debug_allowed: policy.debugAllowed,
    policy_single_socket: policy.singleSocket,
    platform_info: `0x${platformInfo.value.toString(16)}`,
    platform_tsme_enabled: platformInfo.tsmeEnabled,
    platform_smt_enabled: platformInfo.smtEnabled,
    platform_ecc_enabled: platformInfo.eccEnabled,
    platform_alias_check_complete: platformInfo.aliasCheckComplete,
    family_id: hex(report.familyId),
    image_id: hex(report.imageId),
    measurement: hex(report.measurement),
    report_data: hex(report.reportData),
    init_data: hex(report.hostData),
    host_data: hex(report.hostData),
    id_key_digest: hex(report.idKeyDigest),
    author_key_digest: hex(report.authorKeyDigest),
    report_id: hex(report.reportId),
    chip_id: hex(report.chipId),
    signing_key: report.signingKey,
    current_version: version(report.currentFirmware),
    committed_version: version(report.committedFirmware),
    ...(report.cpuid === undefined ? {} : { cpuid: report.cpuid }),
    ...(report.launchMitigations === undefined ? {} : { launch_mit_vector: `0x${report.launchMitigations.toString(16)}` }),
    ...(report.currentMitigations === undefined ? {} : { current_mit_vector: `0x${report.currentMitigations.toString(16)}` }),
    debug: policy.debugAllowed,
    // The report measures the launch; what the firmware does about secure boot it cannot say.
    secureBoot: null,
  };
}

/** Everything about a verified report. */
export function verifiedReportClaims(verified: VerifiedSnpReport): JsonObject {
  const { report, product, tcbs, endorsements } = verified;
  const { key, root } = endorsements;
  return {
    ...reportClaims(report),
    product,
    ...tcbClaims("reported_tcb", tcbs.reported),
    ...tcbClaims("current_tcb", tcbs.current),
    ...tcbClaims("committed_tcb", tcbs.committed),
    ...tcbClaims("launch_tcb", tcbs.launch),
    vek_product_name: key.productName,
    ...(key.cspId === undefined ? {} : { csp_id: key.cspId }),
    chip_id_masked: verified.chipIdMasked,
    provisional_firmware: verified.provisionalFirmware,
    revocation_checked: endorsements.crl !== undefined,
    trust_root: root.fingerprint,
    earliest_expiration_date: new Date(endorsements.expiresAt).toISOString().replace(".000Z", "Z"),
  };
}

function tcbClaims(prefix: string, tcb: AmdTcb): JsonObject {
  return {
    ...(tcb.fmc === undefined ? {} : { [`${prefix}_fmc`]: tcb.fmc }),
    [`${prefix}_bootloader`]: tcb.bl,
    [`${prefix}_tee`]: tcb.tee,
    [`${prefix}_snp`]: tcb.snp,
    [`${prefix}_microcode`]: tcb.ucode,
  };
}
