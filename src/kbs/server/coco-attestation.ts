import { createRemoteJWKSet, customFetch, jwtVerify } from "jose";
import { encodeBase64Url } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { memberAt, isObject } from "../protocol/shape.ts";
import { parseAdditionalEvidence } from "../protocol/messages.ts";
import { JsonService } from "../stores/json-service.ts";
import { deviceReportData, primaryReportData } from "../protocol/runtime-data.ts";
import { tees } from "../protocol/tee-names.ts";
import { fetchJson } from "../tokens/fetch-json.ts";
import { requireOwnChallenge } from "../tokens/foreign-claims.ts";
import type { AttestationJob, AttestationOutcome, AttestationService } from "./attestation-service.ts";
import { Refusal } from "./refusal.ts";

export interface CocoAttestationOptions {
  /** `http://127.0.0.1:8080` of a restful attestation service. */
  readonly url: string;
  /** `default` unless told. */
  readonly policyIds: readonly string[];
  /** Its keys; `/.well-known/jwks.json` of the same service unless told. */
  readonly jwksUrl?: string | undefined;
  readonly authorities?: string | undefined;
}

/**
 * Lets a CoCo attestation service judge the evidence over REST. Its token is handed to the guest as it is, and verified
 * here with its published keys when it comes back.
 *
 * Source: Trustee, attestation-service, restful-as: `POST /attestation`.
 */
export function cocoAttestationService(options: CocoAttestationOptions): AttestationService & ForeignTokens {
  const service = new JsonService({ url: options.url, name: "the CoCo attestation service", authorities: options.authorities });
  const jwksUrl = options.jwksUrl ?? `${options.url.replace(/\/$/, "")}/.well-known/jwks.json`;
  const fetcher = fetchJson(options.authorities);
  const keys = createRemoteJWKSet(new URL(jwksUrl), { [customFetch]: async (target) => Response.json(await fetcher.json(target)) });
  const verify = async (token: string, now: Date) =>
    (
      await jwtVerify(token, keys, {
        algorithms: ["ES256", "ES384", "RS256", "PS256", "PS384", "RS384"],
        clockTolerance: 60,
        currentDate: now,
        requiredClaims: ["exp"],
      })
    ).payload;
  return {
    verifyForeign: verify,
    attest: async (job) => {
      const { tee } = job.session.request;
      if (tees[tee].sample && job.mode === "production")
        throw refused(`${tee} evidence proves nothing, and is accepted in development mode only`);
      const answer = await service.text("POST", "/attestation", bodyOf(job, options.policyIds));
      // Its every refusal is a 500 with a text; only a proxy before it says that it is away.
      if ([502, 503, 504].includes(answer.status)) throw service.failed("judge the evidence", { status: answer.status, value: undefined });
      if (answer.status !== 200) throw refused(answer.text.slice(0, 300));
      const token = answer.text.trim();
      return outcomeOf(token, await verifiedClaims(verify, token, job));
    },
  };
}

/** Tokens that another service signed. */
export interface ForeignTokens {
  verifyForeign(token: string, now: Date): Promise<Readonly<Record<string, unknown>>>;
}

/** Verified, and about this very session: another answer of the service, or one that somebody put in its place, is refused. */
async function verifiedClaims(verify: ForeignTokens["verifyForeign"], token: string, { session, request, mode, now }: AttestationJob) {
  try {
    const claims = await verify(token, now);
    const { nonce } = session;
    const { teePublicKey, additionalEvidence } = request;
    const primary = primaryReportData({ nonce, teePublicKey, additionalEvidence }, session.request.version);
    requireOwnChallenge(claims, {
      mode,
      isNonce: (found) => found === nonce,
      teePublicKey,
      reportData: [primary, deviceReportData({ nonce, teePublicKey })],
    });
    return claims;
  } catch (cause) {
    throw refused(`the attestation service's token does not verify: ${describeCause(cause)}`, cause);
  }
}

function refused(why: string, cause?: unknown): Refusal {
  return new Refusal("evidence-refused", `Attestation error: RCAR handshake Attest failed: ${why}`, { cause });
}

function bodyOf(job: AttestationJob, policyIds: readonly string[]): unknown {
  const { request, session } = job;
  requireNonce(job);
  const runtime = { nonce: session.nonce, "tee-pubkey": request.teePublicKey };
  const evidence = (value: unknown) => encodeBase64Url(Buffer.from(JSON.stringify(value), "utf8"));
  const structured = session.request.version === "0.2.0" ? runtime : { ...runtime, "additional-evidence": request.additionalEvidence };
  const initData = request.initData === undefined ? {} : { init_data: { init_data_toml: request.initData.body } };
  const primary = {
    tee: session.request.tee,
    evidence: evidence(request.primaryEvidence),
    runtime_data: { structured },
    runtime_data_hash_algorithm: "sha384",
    ...initData,
  };
  const others = parseAdditionalEvidence(request.additionalEvidence, job).map((device) => ({
    tee: device.tee,
    evidence: evidence(device.evidence),
    runtime_data: { structured: runtime },
    runtime_data_hash_algorithm: "sha384",
  }));
  return { verification_requests: [primary, ...others], policy_ids: policyIds.length === 0 ? ["default"] : policyIds };
}

/** The nonce that the guest sent is not forwarded: ours is. But whoever sent another one is not of this session. */
function requireNonce({ request, session }: AttestationJob): void {
  if (request.nonce === undefined || request.nonce === session.nonce) return;
  throw new Refusal("nonce-mismatch", "Attestation error: RCAR handshake Attest failed: the nonce is not the one of this session");
}

function outcomeOf(token: string, claims: Readonly<Record<string, unknown>>): AttestationOutcome {
  const submods = claims["submods"];
  const devices = isObject(submods)
    ? Object.entries(submods).map(([name, submod]) => `${name} ${String(memberAt(submod, "ear.status"))}`)
    : [];
  const id = claims["jti"];
  return { token, tokenId: typeof id === "string" ? id : "", devices, reasons: [] };
}
