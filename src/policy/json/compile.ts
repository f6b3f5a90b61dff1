import { createHash } from "node:crypto";
import type { PolicyOutcome, PolicyQuestion } from "../question.ts";
import { deviceClaims, type DeviceClaims } from "./device-claims.ts";
import { parsePolicyDocument, type PolicyDocument } from "./schema.ts";
import { checkTcb } from "./tcb.ts";
import { matchesPath } from "../path-pattern.ts";

/** A compiled policy: pure, and total. */
export interface JsonPolicy {
  readonly id: string;
  /** `sha256:` of its text. */
  readonly digest: string;
  /** The resources that it says it is for; `undefined` leaves that to where it is stored. */
  readonly resources: string | undefined;
  /** Denies unless every condition is proved by the claims, and says each that is not. */
  evaluate(question: PolicyQuestion): PolicyOutcome;
}

/**
 * Compiles a JSON resource policy (version 1). Whatever it does not understand it refuses, with the path.
 * Throws `ERR_POLICY_NOT_UNDERSTOOD`.
 */
export function compileJsonPolicy(text: string, id = "policy"): JsonPolicy {
  const document = parsePolicyDocument(text);
  return {
    id,
    digest: `sha256:${createHash("sha256").update(text, "utf8").digest("hex")}`,
    resources: document.resources,
    evaluate: (question) => evaluate(document, question),
  };
}

function evaluate(policy: PolicyDocument, question: PolicyQuestion): PolicyOutcome {
  const reasons = [...placeReasons(policy, question)];
  const devices = deviceClaims(question.claims);
  const cpus = devices.filter(({ name }) => name.startsWith("cpu"));
  if (cpus.length === 0) reasons.push("the token names no attested processor");
  for (const device of cpus) reasons.push(...deviceReasons(policy, device, question.claims));
  return reasons.length > 0
    ? { allow: false, reasons }
    : { allow: true, reasons: [`every condition holds for ${cpus.map(({ tee }) => tee).join(", ")}`] };
}

function* placeReasons({ resources, notAfter }: PolicyDocument, question: PolicyQuestion): Generator<string> {
  const path = question.resourcePath.join("/");
  if (question.plugin !== "resource") yield `the policy covers no plugin ${JSON.stringify(question.plugin.slice(0, 60))}`;
  if (resources !== undefined && !matchesPath(resources, path)) yield `the policy is for ${resources}, not for ${path}`;
  if (notAfter !== undefined && question.now.getTime() > notAfter.getTime()) yield `the policy ended at ${notAfter.toISOString()}`;
}

function* deviceReasons(policy: PolicyDocument, device: DeviceClaims, claims: Readonly<Record<string, unknown>>): Generator<string> {
  const { tee, name } = device;
  if (!policy.tees.includes(tee)) {
    yield `${name} is ${tee}, the policy allows ${policy.tees.join(", ") || "none"}`;
    return;
  }
  // A verifier that says "contraindicated" has found a reason not to trust; only the sample TEE, which proves nothing, is exempt.
  if (device.status === "contraindicated" && tee !== "sample" && policy.allowedMeasurements === undefined)
    yield `${name} is contraindicated`;
  // No measurement covers this: a host could move an approved guest's memory to a machine of its own.
  if (device.migratable) yield `${name} may be migrated to another machine`;
  const { allowedMeasurements: allowed, initData } = policy;
  if (allowed !== undefined && (device.measurement === undefined || !allowed.includes(device.measurement))) {
    yield `${name} has measurement ${device.measurement ?? "(none)"}, which is not among the ${allowed.length} allowed`;
  }
  if (policy.debugDisabled && device.debug !== "off")
    yield device.debug === "on" ? `${name} allows debugging` : `nothing proves that ${name} does not allow debugging`;
  if (policy.secureBoot && device.secureBoot !== "on") {
    yield device.secureBoot === "off"
      ? `${name} booted without secure boot`
      : `nothing proves that ${name} booted with secure boot (a TDX event log does; an SNP report alone cannot)`;
  }
  if (initData !== undefined && (device.initData === undefined || !initData.some((wanted) => device.initData?.startsWith(wanted)))) {
    yield `${name} was started with other init-data than allowed (${device.initData ?? "none"})`;
  }
  yield* checkTcb(policy.minTcbLevel, device);
  yield* imageReasons(policy, device, claims);
}

/** Which image runs shows only a measured pull in the event log, or init-data that names it. */
function* imageReasons(
  { imageDigests, imageSigners }: PolicyDocument,
  device: DeviceClaims,
  claims: Readonly<Record<string, unknown>>,
): Generator<string> {
  if (imageDigests !== undefined) {
    const pulled = device.pulledImages;
    if (pulled.length === 0) yield `nothing proves which images ${device.name} pulled (a measured PullImage event does)`;
    const other = pulled.find((digest) => !imageDigests.includes(digest));
    if (other !== undefined) yield `${device.name} pulled ${other}, which is not among the ${imageDigests.length} allowed`;
  }
  if (imageSigners !== undefined) {
    const signers = claims["ociseal.image-signers"];
    const proved = Array.isArray(signers) && signers.length > 0 && signers.every((signer) => imageSigners.includes(String(signer)));
    if (!proved) yield `nothing proves that the images of ${device.name} are signed by ${imageSigners.join(" or ")}`;
  }
}
