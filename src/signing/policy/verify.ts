import type { CallOptions } from "../../store/index.ts";
import { discover } from "../discover.ts";
import { SigningError } from "../errors.ts";
import { signaturePredicate } from "../formats.ts";
import { judgeOf, type Judge } from "../judge.ts";
import { reasonsOf } from "../refusal.ts";
import type { CountedFinding, Finding, SignatureReport } from "../report.ts";
import type { ClaimRequirement } from "../requirement.ts";
import { asVerified, plain, type SatisfiedRequirement, type VerifiedSignature } from "../verified.ts";
import type { VerifyTarget } from "../verify-target.ts";
import type { DockerReference } from "./docker-reference.ts";
import { matchesIdentity } from "./identity.ts";
import { readLocalMaterial } from "./material.ts";
import type { PolicyItem, SigstoreSigned } from "./model.ts";
import type { MaterialReader, PolicyRequirement } from "./requirement.ts";
import { chooseRequirements, dockerReferenceOf } from "./scopes.ts";
import { signatoryOf } from "./signatories.ts";

export interface PolicyVerifyRequest extends VerifyTarget {
  readonly requirement: PolicyRequirement;
  readonly claims?: ClaimRequirement | undefined;
}

/**
 * Judges an image by a containers-policy.json as skopeo and podman do: all requirements of the most specific scope must
 * hold, and within one requirement one good `.sig` signature suffices.
 *
 * Throws `ERR_POLICY_REJECTED` with the report in `details`, `ERR_POLICY_MATERIAL`, or the store's own error when a
 * signature could not be read and none that could suffices.
 */
export async function verifyByPolicy(request: PolicyVerifyRequest, options: CallOptions): Promise<VerifiedSignature> {
  const { target, requirement, now = new Date() } = request;
  const store = request.signatureStore ?? request.store;
  const { requirements, scope } = chooseRequirements(requirement.policy, requirement.subject);
  const needsSignatures = requirements.some(({ kind }) => kind === "sigstoreSigned");
  const formats = requirement.bundles === "count" ? (["legacy", "bundle"] as const) : (["legacy"] as const);
  const found = needsSignatures ? await discover({ store, target, formats }, options) : { candidates: [], unreadable: [], leftOut: 0 };
  const context: PolicyContext = {
    judge: judgeOf(store, found, options),
    image: dockerReferenceOf(requirement.subject),
    digest: target.digest,
    read: requirement.readMaterial ?? readLocalMaterial,
    bundles: requirement.bundles ?? "refuse",
    claims: request.claims ?? {},
    now,
  };
  const outcomes: Outcome[] = [];
  for (const item of requirements) outcomes.push(await judgeItem(item, context));
  const report: SignatureReport = { target: plain(target), findings: outcomes.flatMap(({ findings }) => findings), leftOut: found.leftOut };
  const failed = outcomes.filter((outcome) => outcome.kind === "failed");
  const [first] = failed;
  if (first === undefined) {
    const signatures = outcomes.flatMap(({ counted }) => (counted === undefined ? [] : [counted]));
    return asVerified({
      target,
      basis: signatures.length > 0 ? "signed" : "accepted-unsigned",
      signatures,
      policy: { source: requirement.policy.source, scope, requirements: outcomes.flatMap(satisfied) },
      report,
    });
  }
  if (first.failures.length > 0) throw first.failures[0];
  throw new SigningError("ERR_POLICY_REJECTED", {
    message: `${requirement.policy.source} (${scope}) does not allow ${target.digest} in ${store.name}: ${failed.map(({ reason }) => reason).join("; ")}`,
    hint: "sign the image as the policy demands, or correct the policy; ociseal policy check explains the file",
    details: { report, scope },
  });
}

interface PolicyContext {
  readonly judge: Judge;
  readonly image: DockerReference | undefined;
  readonly digest: VerifyTarget["target"]["digest"];
  readonly read: MaterialReader;
  readonly bundles: "refuse" | "count";
  readonly claims: ClaimRequirement;
  readonly now: Date;
}

type Outcome =
  | {
      readonly kind: "holds";
      readonly type: SatisfiedRequirement["type"];
      readonly counted: CountedFinding | undefined;
      readonly findings: readonly Finding[];
    }
  | {
      readonly kind: "failed";
      readonly counted: undefined;
      readonly reason: string;
      readonly findings: readonly Finding[];
      readonly failures: readonly unknown[];
    };

function satisfied(outcome: Outcome): readonly SatisfiedRequirement[] {
  return outcome.kind === "holds" ? [{ type: outcome.type, location: outcome.counted?.location }] : [];
}

async function judgeItem(item: PolicyItem, context: PolicyContext): Promise<Outcome> {
  switch (item.kind) {
    case "insecureAcceptAnything":
      return { kind: "holds", type: item.kind, counted: undefined, findings: [] };
    case "reject":
      return failed("it rejects every image of this scope");
    case "signedBy":
      return failed("it demands a GnuPG signature (signedBy), which is not supported");
    case "signedBaseLayer":
      return failed("it demands a signed base layer, which no tool supports");
    case "sigstoreSigned":
      return await judgeSigstoreSigned(item, context);
  }
}

function failed(reason: string, findings: readonly Finding[] = [], failures: readonly unknown[] = []): Outcome {
  return { kind: "failed", counted: undefined, reason, findings, failures };
}

async function judgeSigstoreSigned(item: SigstoreSigned, context: PolicyContext): Promise<Outcome> {
  const { findings, failures } = await context.judge({
    digest: context.digest,
    signatory: await signatoryOf(item, context.read),
    predicateType: signaturePredicate,
    now: context.now,
    claims: {
      ...context.claims,
      optional: "as-skopeo",
      reference: {
        name: item.signedIdentity.kind,
        bundles: context.bundles,
        accepts: (signed) => matchesIdentity(item.signedIdentity, context.image, signed),
      },
    },
  });
  const counted = findings.find((finding) => finding.verdict === "counts");
  if (counted !== undefined) return { kind: "holds", type: item.kind, counted, findings };
  return failed(
    findings.length === 0 ? "a signature is required, and there is none" : `no signature counts (${reasonsOf(findings)})`,
    findings,
    failures,
  );
}
