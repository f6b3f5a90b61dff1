import { runtimeRegisterAfter } from "../attester/measure-image.ts";
import type { TdReport } from "../intel/quote-body.ts";
import { describeShortfall } from "../intel/tcb-status.ts";
import type { VerifiedQuote } from "../intel/verify.ts";
import { uncheckedFacts, describeValues, masked, shortfall, type Appraiser } from "./appraiser.ts";
import type { CollateralRules, SgxRules, TdxRules } from "./schema.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const day = (ms: number) => new Date(ms).toISOString();

/** What TDX and SGX have in common: status, date, advisories, the platform's SVNs, the collateral. */
export function appraiseTcb(verified: VerifiedQuote, rules: TdxRules | SgxRules, tee: "tdx" | "sgx", appraiser: Appraiser): void {
  const { tcb, pck, collateral, quote } = verified;
  const path = `policy.${tee}`;
  const { body } = quote;
  if (rules.tcbStatus.kind === "unchecked") {
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts(`${path}.tcbStatus`, "the TCB status", rules.tcbStatus));
  } else if (!rules.tcbStatus.values.includes(tcb.status)) {
    const allowed = rules.tcbStatus.values;
    const target = collateral.tcbInfo.levels.find(({ status }) => allowed.includes(status));
    appraiser.refuse("POLICY_TCB_STATUS", {
      path: `${path}.tcbStatus`,
      message: `the TCB status is ${tcb.status}${describeParts(verified)}`,
      expected: describeValues(allowed),
      actual: tcb.status,
      hint: `the host must update: ${describeShortfall(collateral.tcbInfo, pck.extension, body.kind === "sgx" ? undefined : (body.teeTcbSvn2 ?? body.teeTcbSvn), target)}`,
    });
  }
  if (rules.minTcbDate !== undefined) {
    appraiser.expect(tcb.tcbDate >= rules.minTcbDate, "POLICY_TCB_DATE", {
      path: `${path}.minTcbDate`,
      message: "the TCB is older than the policy allows",
      expected: `${day(rules.minTcbDate)} or later`,
      actual: day(tcb.tcbDate),
    });
  }
  appraiseAdvisories(tcb.advisoryIds, rules, path, appraiser);
  if (rules.minPckTcb !== undefined) {
    const { components, pceSvn } = rules.minPckTcb;
    const lacking = [
      shortfall(pck.extension.components, components, (i) => `SGX component ${i + 1}`),
      shortfall([pck.extension.pceSvn], [pceSvn], () => "PCE SVN"),
    ].filter((text) => text !== "");
    appraiser.expect(lacking.length === 0, "POLICY_TCB_MINIMUM", {
      path: `${path}.minPckTcb`,
      message: "the platform's SVNs are below the policy's minimum",
      expected: components.join(" "),
      actual: pck.extension.components.join(" "),
      hint: lacking.join("; "),
    });
  }
}

function describeParts({ tcb }: VerifiedQuote): string {
  const { launch, current } = tcb;
  const parts = [
    `platform ${launch.platform.status}`,
    ...(launch.module === undefined ? [] : [`module ${launch.module.status}`]),
    `QE ${launch.qe.status}`,
  ];
  if (current !== undefined) parts.push(`now ${current.status}`);
  return ` (${parts.join(", ")})`;
}

function appraiseAdvisories(advisoryIds: readonly string[], rules: TdxRules | SgxRules, path: string, appraiser: Appraiser): void {
  const { allowAdvisories, denyAdvisories } = rules;
  if (allowAdvisories?.kind === "unchecked")
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts(`${path}.allowAdvisories`, "the list of advisories", allowAdvisories));
  const outside = allowAdvisories?.kind === "one-of" ? advisoryIds.filter((id) => !allowAdvisories.values.includes(id)) : [];
  const wrong = [...new Set([...outside, ...advisoryIds.filter((id) => denyAdvisories.includes(id))])];
  appraiser.expect(wrong.length === 0, "POLICY_ADVISORY", {
    path: `${path}.${outside.length > 0 ? "allowAdvisories" : "denyAdvisories"}`,
    message: `advisories apply that the policy does not allow: ${wrong.join(", ")}`,
    actual: advisoryIds.join(", "),
    hint: "read the advisories at Intel, then update the host or allow them",
  });
}

/** Freshness of Intel's tables. */
export function appraiseCollateral({ collateral, tcb }: VerifiedQuote, rules: CollateralRules, appraiser: Appraiser): void {
  if (rules.maxAgeMs !== undefined) {
    const oldest = Math.min(collateral.tcbInfo.issueDate, collateral.qeIdentity.issueDate, collateral.pckCrl.thisUpdate);
    appraiser.expect(collateral.at - oldest <= rules.maxAgeMs, "POLICY_COLLATERAL_AGE", {
      path: "policy.collateral.maxAge",
      message: "the collateral was issued longer ago than the policy allows",
      expected: `issued after ${day(collateral.at - rules.maxAgeMs)}`,
      actual: day(oldest),
      hint: "fetch it anew: ociseal attest collateral fetch",
    });
  }
  const { minTcbEvaluationDataNumber: minimum } = rules;
  if (minimum !== undefined) {
    appraiser.expect(tcb.evaluationDataNumber >= minimum, "POLICY_COLLATERAL_NUMBER", {
      path: "policy.collateral.minTcbEvaluationDataNumber",
      message: "the TCB table is older than the policy allows, though not expired",
      expected: `${minimum} or higher`,
      actual: String(tcb.evaluationDataNumber),
      hint: "fetch newer collateral (update=early shows new tables at once)",
    });
  }
}

/** Everything about a TD; gives whether a measurement identified it. */
export function appraiseTd(body: TdReport, rules: TdxRules, appraiser: Appraiser): boolean {
  const path = "policy.tdx";
  appraiser.expect(!body.debug || rules.allowDebug, "POLICY_DEBUG", {
    path: `${path}.allowDebug`,
    message: "the TD can be debugged by its host (TDATTRIBUTES bits 0 to 7)",
    expected: "no bit of the TUD group",
    actual: hex(body.tdAttributes),
    hint: "start the TD without the debug attribute",
  });
  appraiser.expect(!body.migratable || rules.allowMigratable, "POLICY_MIGRATION", {
    path: `${path}.allowMigratable`,
    message: "the TD is migratable (TDATTRIBUTES bit 29)",
    actual: hex(body.tdAttributes),
  });
  appraiser.expect(body.septVeDisable || !rules.requireSeptVeDisable, "POLICY_ATTRIBUTES", {
    path: `${path}.requireSeptVeDisable`,
    message: "SEPT_VE_DISABLE is not set (TDATTRIBUTES bit 28)",
    actual: hex(body.tdAttributes),
  });
  if (rules.tdAttributes !== undefined) {
    appraiser.expect(masked(body.tdAttributes, rules.tdAttributes), "POLICY_ATTRIBUTES", {
      path: `${path}.tdAttributes`,
      message: "TDATTRIBUTES are not as the policy wants them",
      expected: `${rules.tdAttributes.value} under mask ${rules.tdAttributes.mask}`,
      actual: hex(body.tdAttributes),
    });
  }
  if (rules.xfam !== undefined) appraiseXfam(body, rules.xfam, appraiser);
  appraiseSvns(body, rules, appraiser);
  appraiseServiceTd(body, rules, appraiser);
  appraiseImage(body, rules, appraiser);
  const compare = (name: string, what: string, constraint: TdxRules["mrTd"], actual: Buffer) =>
    appraiser.constrain({ code: "POLICY_MEASUREMENT", path: `${path}.${name}`, what, constraint, actual: hex(actual) });
  compare("mrSeam", "MRSEAM (the TDX module)", rules.mrSeam, body.mrSeam);
  compare("mrSignerSeam", "MRSIGNERSEAM", rules.mrSignerSeam, body.mrSignerSeam);
  compare("mrConfigId", "MRCONFIGID (init-data)", rules.mrConfigId, body.mrConfigId);
  compare("mrOwner", "MROWNER", rules.mrOwner, body.mrOwner);
  compare("mrOwnerConfig", "MROWNERCONFIG", rules.mrOwnerConfig, body.mrOwnerConfig);
  const registers = body.rtmr.map((value, i) => compare(`rtmr.${i}`, `RTMR${i}`, rules.rtmr[i], value));
  return [compare("mrTd", "MRTD (the firmware)", rules.mrTd, body.mrTd), ...registers].some(Boolean);
}

function appraiseImage(body: TdReport, { images }: TdxRules, appraiser: Appraiser): void {
  if (images === undefined) return;
  const path = "policy.tdx.images";
  if (images.kind === "unchecked") {
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts(path, "the measured image", images));
    return;
  }
  const measured = images.values.some((image) => runtimeRegisterAfter([image]).equals(body.rtmr[3]));
  appraiser.expect(measured, "POLICY_IMAGE", {
    path,
    message: "RTMR3 is not what measuring one of the allowed images leads to",
    expected: describeValues(images.values),
    actual: hex(body.rtmr[3]),
    hint: "the guest must measure the image before it runs, and nothing else in RTMR3",
  });
}

function appraiseXfam(
  body: TdReport,
  { fixed1, allowed }: { readonly fixed1: string; readonly allowed: string },
  appraiser: Appraiser,
): void {
  const number = (text: string) => BigInt(`0x${text}`);
  const actual = number(hex(body.xfam));
  appraiser.expect((actual & number(fixed1)) === number(fixed1) && (actual & ~number(allowed)) === 0n, "POLICY_ATTRIBUTES", {
    path: "policy.tdx.xfam",
    message: "XFAM has features that the policy does not allow, or lacks some that it wants",
    expected: `at least ${fixed1}, at most ${allowed}`,
    actual: hex(body.xfam),
  });
}

function appraiseSvns(body: TdReport, { minTeeTcbSvn }: TdxRules, appraiser: Appraiser): void {
  if (minTeeTcbSvn === undefined) return;
  for (const [name, svn] of [
    ["TEE_TCB_SVN", body.teeTcbSvn],
    ["TEE_TCB_SVN_2 (current)", body.teeTcbSvn2],
  ] as const) {
    const lacking = svn === undefined ? "" : shortfall(svn, minTeeTcbSvn);
    appraiser.expect(lacking === "", "POLICY_TCB_MINIMUM", {
      path: "policy.tdx.minTeeTcbSvn",
      message: `${name} is below the policy's minimum`,
      expected: hex(Uint8Array.from(minTeeTcbSvn)),
      actual: svn === undefined ? "" : hex(svn),
      hint: lacking,
    });
  }
}

function appraiseServiceTd(body: TdReport, { serviceTd }: TdxRules, appraiser: Appraiser): void {
  const bound = body.mrServiceTd;
  if (bound === undefined) return;
  const path = "policy.tdx.serviceTd";
  if (serviceTd === "none") {
    appraiser.expect(
      bound.every((byte) => byte === 0),
      "POLICY_SERVICE_TD",
      { path, message: "a service TD is bound to the guest (MRSERVICETD)", expected: "none", actual: hex(bound) },
    );
    return;
  }
  appraiser.constrain({ code: "POLICY_SERVICE_TD", path, what: "the bound service TD", constraint: serviceTd, actual: hex(bound) });
}

/** Everything about an enclave; gives whether a measurement identified it. */
export function appraiseEnclave({ quote }: VerifiedQuote, rules: SgxRules, appraiser: Appraiser): boolean {
  const { body } = quote;
  if (body.kind !== "sgx") return false;
  const path = "policy.sgx";
  appraiser.expect(!body.debug || rules.allowDebug, "POLICY_DEBUG", {
    path: `${path}.allowDebug`,
    message: "the enclave can be debugged (ATTRIBUTES bit 1)",
    actual: hex(body.attributes),
  });
  if (rules.attributes !== undefined) {
    appraiser.expect(masked(body.attributes, rules.attributes), "POLICY_ATTRIBUTES", {
      path: `${path}.attributes`,
      message: "ATTRIBUTES are not as the policy wants them",
      expected: `${rules.attributes.value} under mask ${rules.attributes.mask}`,
      actual: hex(body.attributes),
    });
  }
  if (rules.isvProdId !== undefined) {
    appraiser.expect(body.isvProdId === rules.isvProdId, "POLICY_MEASUREMENT", {
      path: `${path}.isvProdId`,
      message: "the enclave is another product of its signer",
      expected: String(rules.isvProdId),
      actual: String(body.isvProdId),
    });
  }
  if (rules.minIsvSvn !== undefined) {
    appraiser.expect(body.isvSvn >= rules.minIsvSvn, "POLICY_TCB_MINIMUM", {
      path: `${path}.minIsvSvn`,
      message: "the enclave's SVN is below the policy's minimum",
      expected: String(rules.minIsvSvn),
      actual: String(body.isvSvn),
    });
  }
  const enclave = appraiser.constrain({
    code: "POLICY_MEASUREMENT",
    path: `${path}.mrEnclave`,
    what: "MRENCLAVE",
    constraint: rules.mrEnclave,
    actual: hex(body.mrEnclave),
  });
  const signer = appraiser.constrain({
    code: "POLICY_SIGNER",
    path: `${path}.mrSigner`,
    what: "MRSIGNER",
    constraint: rules.mrSigner,
    actual: hex(body.mrSigner),
  });
  return enclave || signer;
}
