import type { AmdProduct, AmdTcb } from "../amd/products.ts";
import type { Digest } from "../../bytes/index.ts";
import type { Finding } from "../findings.ts";
import type { TcbStatus } from "../intel/status-words.ts";
import type { TeeName } from "../tee.ts";

/**
 * What a value must be: one of a list (an empty list allows nothing), or deliberately not looked at, with the reason.
 * A member that a policy leaves out is `undefined` here: not constrained, which appraisal says aloud where it matters.
 */
export type Constraint<Value> = { readonly kind: "one-of"; readonly values: readonly Value[] } | Unchecked;

/** Written in JSON as `{"kind": "unchecked", "reason": "…"}`. */
export interface Unchecked {
  readonly kind: "unchecked";
  readonly reason: string;
}

/** Bits that must have a value: `(field & mask) == value`. Lower-case hex. */
export interface MaskedValue {
  readonly mask: string;
  readonly value: string;
}

/** A host, by whatever its vendor identifies it with. */
export interface HostId {
  readonly kind: "ppid" | "piid" | "chip" | "csp";
  /** Lower-case hex; for `csp` the text. */
  readonly value: string;
}

/** An event that the log must hold, by register, type and digest (any of the digests). */
export interface EventRule {
  /** 0 to 3. */
  readonly rtmr: number;
  /** `EV_…`; any type unless given. Types are not authenticated: the digest is. */
  readonly type: string | undefined;
  readonly digests: readonly string[];
}

/** What the event log must show. */
export interface EventLogRules {
  readonly require: boolean;
  readonly secureBoot: boolean;
  readonly events: readonly EventRule[];
  /**
   * Registers (0 to 3) in which no event may occur whose digest is in none of the rules for it. Without this a rule only
   * says that an event occurred: whoever controls the guest can append events, approved ones too, after booting others.
   */
  readonly onlyListed: readonly number[];
}

export interface CollateralRules {
  /** Milliseconds that the oldest part may have been issued ago. */
  readonly maxAgeMs: number | undefined;
  readonly update: "standard" | "early" | undefined;
  readonly minTcbEvaluationDataNumber: number | undefined;
  /** Whether an AMD result without a revocation list is refused. Intel's lists are always required. */
  readonly revocation: "require" | Unchecked | undefined;
}

/** Nothing asked of collateral. */
export const noCollateralRules: CollateralRules = {
  maxAgeMs: undefined,
  update: undefined,
  minTcbEvaluationDataNumber: undefined,
  revocation: undefined,
};

export interface TdxRules {
  readonly tcbStatus: Constraint<TcbStatus>;
  /** Milliseconds since the epoch. */
  readonly minTcbDate: number | undefined;
  /** Every advisory must be in the list. */
  readonly allowAdvisories: Constraint<string> | undefined;
  readonly denyAdvisories: readonly string[];
  /** Component-wise minimum of TEE_TCB_SVN, launch and current; 16 numbers. */
  readonly minTeeTcbSvn: readonly number[] | undefined;
  readonly minPckTcb: { readonly components: readonly number[]; readonly pceSvn: number } | undefined;
  readonly mrSeam: Constraint<string> | undefined;
  readonly mrSignerSeam: Constraint<string> | undefined;
  readonly tdAttributes: MaskedValue | undefined;
  readonly allowDebug: boolean;
  readonly allowMigratable: boolean;
  readonly requireSeptVeDisable: boolean;
  readonly xfam: { readonly fixed1: string; readonly allowed: string } | undefined;
  readonly mrTd: Constraint<string> | undefined;
  readonly mrConfigId: Constraint<string> | undefined;
  readonly mrOwner: Constraint<string> | undefined;
  readonly mrOwnerConfig: Constraint<string> | undefined;
  readonly rtmr: readonly (Constraint<string> | undefined)[];
  /** Manifest digests: RTMR3 must be what measuring exactly one of them leads to (see `measureImage`). */
  readonly images: Constraint<Digest> | undefined;
  /** `none`: no service TD may be bound; otherwise the allowed MRSERVICETD. */
  readonly serviceTd: "none" | Constraint<string>;
  readonly eventLog: EventLogRules;
}

export interface SgxRules {
  readonly tcbStatus: Constraint<TcbStatus>;
  readonly minTcbDate: number | undefined;
  readonly allowAdvisories: Constraint<string> | undefined;
  readonly denyAdvisories: readonly string[];
  readonly minPckTcb: { readonly components: readonly number[]; readonly pceSvn: number } | undefined;
  readonly mrEnclave: Constraint<string> | undefined;
  readonly mrSigner: Constraint<string> | undefined;
  readonly isvProdId: number | undefined;
  readonly minIsvSvn: number | undefined;
  readonly attributes: MaskedValue | undefined;
  readonly allowDebug: boolean;
}

export type PerProduct<Value> = Readonly<Partial<Record<AmdProduct, Value>>>;

export interface SnpRules {
  readonly products: Constraint<AmdProduct> | undefined;
  readonly signer: Constraint<"VCEK" | "VLEK"> | undefined;
  readonly cspId: Constraint<string> | undefined;
  /** Minimums of REPORTED_TCB; a product that is not named is refused. */
  readonly minTcb: PerProduct<Partial<AmdTcb>> | Unchecked | undefined;
  readonly minLaunchTcb: PerProduct<Partial<AmdTcb>> | undefined;
  readonly minCommittedTcb: PerProduct<Partial<AmdTcb>> | undefined;
  /** Whether firmware that can be rolled back is allowed. */
  readonly provisionalFirmware: boolean;
  /** Of the committed firmware. */
  readonly minAbi: { readonly major: number; readonly minor: number } | undefined;
  readonly minBuild: number | undefined;
  readonly vmpl: Constraint<number>;
  readonly minGuestSvn: number | undefined;
  readonly familyId: Constraint<string> | undefined;
  readonly imageId: Constraint<string> | undefined;
  readonly idKeyDigest: Constraint<string> | undefined;
  readonly authorKeyDigest: Constraint<string> | undefined;
  readonly measurement: Constraint<string> | undefined;
  readonly hostData: Constraint<string> | undefined;
  readonly reportId: Constraint<string> | undefined;
  readonly guestPolicy: {
    readonly allowDebug: boolean;
    readonly allowMigrationAgent: boolean;
    readonly allowSmt: boolean;
    readonly requireSingleSocket: boolean;
    readonly requireCiphertextHiding: boolean;
  };
  readonly platform: {
    readonly requireAliasCheck: boolean;
    readonly requireEcc: boolean;
    readonly allowSmt: boolean;
    readonly requireTsme: boolean;
  };
  /** Bits that must be set in the mitigation vectors of a version 5 report. */
  readonly mitigations: { readonly launch: bigint; readonly current: bigint } | undefined;
  readonly allowMaskedChipId: boolean;
  /** Set by the legacy policy's `require_secure_boot`, which no SNP report can prove. */
  readonly requireSecureBoot: boolean;
}

/** A parsed policy. */
export interface AttestationPolicy {
  readonly name: string;
  readonly source: "built-in" | "supplied";
  /** TEEs that are allowed at all; a TEE without rules is refused. */
  readonly tees: readonly TeeName[];
  /** `required`: the caller of verification must have said which report data to expect. */
  readonly reportData: "required" | Unchecked | undefined;
  /** Digests of init-data that are allowed, lower-case hex, compared with the TEE's field as it pads or cuts them. */
  readonly initData: Constraint<string> | undefined;
  readonly hosts: { readonly allow: readonly HostId[] | undefined; readonly deny: readonly HostId[] };
  readonly collateral: CollateralRules;
  readonly tdx: TdxRules | undefined;
  readonly sgx: SgxRules | undefined;
  readonly snp: SnpRules | undefined;
  /** Things to say with every appraisal: what the policy asks for and cannot get. */
  readonly notes: readonly Finding[];
}
