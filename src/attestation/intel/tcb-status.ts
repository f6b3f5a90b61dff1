import { refuse } from "../refuse.ts";
import type { TcbStatus } from "./status-words.ts";
import type { ComponentLevel, ComponentStatus, PlatformStatus, TcbInfo, TcbLevel, TdxModuleIdentity } from "./tcb-info.ts";

/** The SVNs of one platform, as its PCK certificate states them. */
export interface PlatformTcb {
  readonly components: readonly number[];
  readonly pceSvn: number;
}

/** The levels that one evaluation matched. */
export interface TcbEvaluation {
  readonly status: PlatformStatus;
  readonly platform: TcbLevel;
  readonly module: ComponentLevel | undefined;
  readonly qe: ComponentLevel;
}

/** First component of TEE_TCB_SVN that belongs to the platform: 0 and 1 are the module's once it has a major version. */
function firstTdxComponent(teeTcbSvn: Uint8Array): number {
  return (teeTcbSvn[1] ?? 0) > 0 ? 2 : 0;
}

function reaches(have: ArrayLike<number>, need: readonly number[], from = 0): boolean {
  return need.every((svn, i) => i < from || (have[i] ?? -1) >= svn);
}

/** The platform's level: the highest that every SVN reaches. Source: Intel QVL 2026, 4.1.2.5.1 and 4.1.2.5.2. */
export function matchPlatform(info: TcbInfo, tcb: PlatformTcb, teeTcbSvn: Uint8Array | undefined): TcbLevel | undefined {
  return info.levels.find(
    (level) =>
      reaches(tcb.components, level.sgxComponents) &&
      tcb.pceSvn >= level.pceSvn &&
      (teeTcbSvn === undefined || reaches(teeTcbSvn, level.tdxComponents, firstTdxComponent(teeTcbSvn))),
  );
}

/** The identity of the module with this TEE_TCB_SVN; `undefined` for modules before identities existed (major version 0). */
export function moduleIdentityOf(info: TcbInfo, teeTcbSvn: Uint8Array, path: string): TdxModuleIdentity | undefined {
  const major = teeTcbSvn[1] ?? 0;
  if (major === 0) return undefined;
  const id = `TDX_${major.toString(16).toUpperCase().padStart(2, "0")}`;
  const identity = info.tdxModuleIdentities.find((candidate) => candidate.id === id);
  if (identity === undefined) {
    throw refuse("TDX_MODULE_UNKNOWN", {
      path,
      message: `Intel's collateral knows no TDX module ${id}`,
      expected: info.tdxModuleIdentities.map((known) => known.id).join(", "),
      actual: id,
    });
  }
  return identity;
}

/** The level of a module or enclave: the highest that its SVN reaches. */
export function matchComponent(levels: readonly ComponentLevel[], svn: number): ComponentLevel | undefined {
  return levels.find((level) => level.isvSvn <= svn);
}

const outOfDate: Readonly<Record<PlatformStatus, PlatformStatus>> = {
  UpToDate: "OutOfDate",
  SWHardeningNeeded: "OutOfDate",
  ConfigurationNeeded: "OutOfDateConfigurationNeeded",
  ConfigurationAndSWHardeningNeeded: "OutOfDateConfigurationNeeded",
  OutOfDate: "OutOfDate",
  OutOfDateConfigurationNeeded: "OutOfDateConfigurationNeeded",
  Revoked: "Revoked",
};

/** Joins the platform's status with one component's. Source: reference C 2.1 step 16. */
export function converge(platform: PlatformStatus, component: ComponentStatus): PlatformStatus {
  switch (component) {
    case "UpToDate":
      return platform;
    case "OutOfDate":
      return outOfDate[platform];
    case "Revoked":
      return "Revoked";
  }
}

/** Evaluates one set of SVNs. Throws `TCB_NOT_SUPPORTED` (with the shortfall) when no level is reached. */
export function evaluate(request: {
  readonly info: TcbInfo;
  readonly tcb: PlatformTcb;
  readonly teeTcbSvn: Uint8Array | undefined;
  readonly qe: ComponentLevel;
  readonly path: string;
}): TcbEvaluation {
  const { info, tcb, teeTcbSvn, qe, path } = request;
  const platform = matchPlatform(info, tcb, teeTcbSvn);
  if (platform === undefined) {
    throw refuse("TCB_NOT_SUPPORTED", {
      path,
      message: "the platform reaches none of the TCB levels that Intel lists",
      expected: describeShortfall(info, tcb, teeTcbSvn, info.levels.at(-1)),
    });
  }
  const module = teeTcbSvn === undefined ? undefined : evaluateModule(info, teeTcbSvn, path);
  const withModule = module === undefined ? platform.status : converge(platform.status, module.status);
  return { status: converge(withModule, qe.status), platform, module, qe };
}

function evaluateModule(info: TcbInfo, teeTcbSvn: Uint8Array, path: string): ComponentLevel | undefined {
  const identity = moduleIdentityOf(info, teeTcbSvn, path);
  if (identity === undefined) return undefined;
  const level = matchComponent(identity.levels, teeTcbSvn[0] ?? 0);
  if (level === undefined) {
    throw refuse("TCB_NOT_SUPPORTED", {
      path,
      message: `the TDX module ${identity.id} is older than every level that Intel lists`,
      expected: `SVN ${identity.levels.at(-1)?.isvSvn ?? "?"} or higher`,
      actual: `SVN ${teeTcbSvn[0] ?? 0}`,
    });
  }
  return level;
}

const current: readonly TcbStatus[] = ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"];

/**
 * Joins the status at the TD's launch with the current one (TD 1.5). A TD that was launched under an outdated module
 * which has been updated since is advised to relaunch. Source: Intel QVL 2026, relaunch check; reference C 2.1 step 17.
 * Stricter than Intel in one case that its tables cannot reach: a revoked current TCB is revoked.
 */
export function joinRelaunch(launch: PlatformStatus, now: PlatformStatus): TcbStatus {
  if (now === "Revoked") return "Revoked";
  if ((launch === "OutOfDate" || launch === "OutOfDateConfigurationNeeded") && current.includes(now)) {
    return launch.includes("Configuration") || now.includes("Configuration") ? "TDRelaunchAdvisedConfigurationNeeded" : "TDRelaunchAdvised";
  }
  return launch;
}

/** What a platform lacks to reach a level: "SGX component 3 (SEAMLDR ACM): have 19, need 20; PCE SVN: have 11, need 13". */
export function describeShortfall(info: TcbInfo, tcb: PlatformTcb, teeTcbSvn: Uint8Array | undefined, level: TcbLevel | undefined): string {
  if (level === undefined) return "no level at all";
  const lacking = [
    ...level.sgxComponents.flatMap((need, i) => lack(`SGX component ${i + 1}`, level.sgxNames[i], tcb.components[i] ?? 0, need)),
    ...lack("PCE SVN", undefined, tcb.pceSvn, level.pceSvn),
  ];
  if (teeTcbSvn !== undefined) {
    const from = firstTdxComponent(teeTcbSvn);
    lacking.push(
      ...level.tdxComponents.flatMap((need, i) =>
        i < from ? [] : lack(`TDX component ${i + 1}`, level.tdxNames[i], teeTcbSvn[i] ?? 0, need),
      ),
    );
    const identity = info.tdxModuleIdentities.find(
      ({ id }) => id === `TDX_${(teeTcbSvn[1] ?? 0).toString(16).toUpperCase().padStart(2, "0")}`,
    );
    const best = identity?.levels.find(({ status }) => status === "UpToDate");
    if (identity !== undefined && best !== undefined)
      lacking.push(...lack(`TDX module ${identity.id}`, undefined, teeTcbSvn[0] ?? 0, best.isvSvn));
  }
  return lacking.length === 0 ? `nothing for ${level.status}` : `${lacking.join("; ")} for ${level.status}`;
}

function lack(what: string, name: string | undefined, have: number, need: number): readonly string[] {
  if (have >= need) return [];
  return [`${what}${name === undefined || name === "" ? "" : ` (${name})`}: have ${have}, need ${need}`];
}
