import { describeCause, ToolError } from "../../errors/index.ts";
import type { EvidenceVerifier } from "../protocol/evidence.ts";
import { parseAdditionalEvidence, type AttestationRequest, type AuthRequest } from "../protocol/messages.ts";
import type { AttestationPolicy } from "../protocol/policy-seam.ts";
import { deviceReportData, primaryReportData } from "../protocol/runtime-data.ts";
import { tees, type TeeName } from "../protocol/tee-names.ts";
import { statusOf } from "../protocol/trust-vector.ts";
import type { AttestationTokens, AttestedDevice } from "../tokens/attestation-tokens.ts";
import { parseInitDataDocument } from "./init-data.ts";
import { Refusal } from "./refusal.ts";

/** A guest that proved what it is. */
export interface AttestationOutcome {
  readonly token: string;
  readonly tokenId: string;
  /** `tdx affirming`, one per device. */
  readonly devices: readonly string[];
  readonly reasons: readonly string[];
}

export interface AttestationJob {
  readonly session: { readonly request: AuthRequest; readonly nonce: string };
  readonly request: AttestationRequest;
  /** The sample TEE proves nothing: it is for development only. */
  readonly mode: "production" | "development";
  readonly now: Date;
  readonly maxBytes: number;
}

/** Turns evidence into a token. Throws refusals `nonce-mismatch`, `evidence-refused`. */
export interface AttestationService {
  attest(job: AttestationJob): Promise<AttestationOutcome>;
}

/** Appraises evidence in this process: verifiers, then the attestation policy, then our own token. */
export class BuiltInAttestation implements AttestationService {
  readonly #verifiers: ReadonlyMap<TeeName, EvidenceVerifier>;
  readonly #policyFor: (deviceClass: string) => Promise<AttestationPolicy>;
  readonly #tokens: AttestationTokens;
  readonly #referenceValue: (now: Date) => Promise<(name: string) => unknown>;

  constructor(parts: {
    readonly verifiers: readonly EvidenceVerifier[];
    /** The policy for a class of devices. */
    readonly policyFor: (deviceClass: string) => Promise<AttestationPolicy>;
    readonly tokens: AttestationTokens;
    /** Reads the reference values that are valid now. */
    readonly referenceValues: (now: Date) => Promise<(name: string) => unknown>;
  }) {
    this.#verifiers = new Map(parts.verifiers.flatMap((verifier) => verifier.tees.map((tee) => [tee, verifier] as const)));
    this.#policyFor = parts.policyFor;
    this.#tokens = parts.tokens;
    this.#referenceValue = parts.referenceValues;
  }

  async attest(job: AttestationJob): Promise<AttestationOutcome> {
    const { request, session, now } = job;
    if (request.nonce !== undefined && request.nonce !== session.nonce) {
      throw new Refusal("nonce-mismatch", "Attestation error: RCAR handshake Attest failed: the nonce is not the one of this session");
    }
    const runtimeData = { nonce: session.nonce, teePublicKey: request.teePublicKey, additionalEvidence: request.additionalEvidence };
    const initData = request.initData === undefined ? undefined : parseInitDataDocument(request.initData);
    const primary = {
      tee: session.request.tee,
      evidence: request.primaryEvidence,
      reportData: primaryReportData(runtimeData, session.request.version),
    };
    const others = parseAdditionalEvidence(request.additionalEvidence, job).map((device) => ({
      ...device,
      reportData: deviceReportData(runtimeData),
    }));
    const referenceValue = await this.#referenceValue(now);
    const shared = {
      runtime_data_claims: { nonce: session.nonce, "tee-pubkey": request.teePublicKey },
      init_data_claims: initData?.claims ?? null,
    };
    const counts = new Map<string, number>();
    const devices: AttestedDevice[] = [];
    for (const device of [primary, ...others]) {
      const { deviceClass } = tees[device.tee];
      const index = counts.get(deviceClass) ?? 0;
      counts.set(deviceClass, index + 1);
      const verified = await this.#verify(device, initData?.digest, now);
      const evidence = {
        [device.tee]: verified.claims,
        report_data: verified.reportData,
        ...(verified.initData === undefined ? {} : { init_data: verified.initData }),
        ...shared,
      };
      const policy = await this.#policyFor(deviceClass);
      const appraisal = await policy.appraise({ tee: device.tee, deviceClass, input: evidence, now, referenceValue });
      devices.push({ name: `${deviceClass}${index}`, policyId: policy.id, evidence, ...appraisal });
    }
    const { token, tokenId } = this.#tokens.issue(devices, now);
    return {
      token,
      tokenId,
      devices: devices.map(({ name, vector }) => `${name} ${statusOf(vector)}`),
      reasons: devices.flatMap(({ name, reasons }) => reasons.map((reason) => `${name}: ${reason}`)),
    };
  }

  async #verify(
    device: { readonly tee: TeeName; readonly evidence: unknown; readonly reportData: Buffer },
    initDataDigest: Buffer | undefined,
    now: Date,
  ) {
    const verifier = this.#verifiers.get(device.tee);
    if (verifier === undefined) {
      const hint = tees[device.tee].sample ? " (it proves nothing, and is accepted in development mode only)" : "";
      throw new Refusal(
        "evidence-refused",
        `Attestation error: RCAR handshake Attest failed: this service verifies no ${device.tee} evidence${hint}`,
      );
    }
    try {
      return await verifier.verify({ ...device, now, ...(initDataDigest === undefined ? {} : { initDataDigest }) });
    } catch (cause) {
      if (!(cause instanceof ToolError) || cause.category === "unavailable" || cause.category === "internal") throw cause;
      throw new Refusal("evidence-refused", `Attestation error: RCAR handshake Attest failed: ${describeCause(cause)}`, { cause });
    }
  }
}
