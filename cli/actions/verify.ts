import { parseImageName } from "../../src/oci/index.ts";
import { verifyAttestation, verifyImage, type SignatureReport, type VerifiedSignature } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { overList, type FromFileOptions } from "../from-file.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import { keyValues } from "../key-values.ts";
import { requirementOf, type VerifierOptions } from "../signing-settings.ts";
import { printable } from "../table.ts";

interface VerifyOptions extends FromFileOptions, RegistryFlags, VerifierOptions {
  readonly annotation?: readonly string[];
  readonly type?: string;
  readonly signatureRepository?: string;
}

const verifyOne: Action<VerifyOptions> = async (shell, [name = ""], options) => {
  const requirement = await requirementOf(shell, options, parseImageName(name));
  const verified = await withImages(shell, options, async (images): Promise<VerifiedSignature> => {
    const { image, root: target } = await images.resolve(name);
    const signatureStore =
      options.signatureRepository === undefined ? undefined : (await images.open(options.signatureRepository, "read")).store;
    const claims = { annotations: keyValues("-a", options.annotation) };
    const request = { store: image.store, target, claims, signatureStore };
    if (options.type === undefined) return verifyImage({ ...request, requirement }, { signal: shell.signal });
    if (requirement.kind === "policy")
      throw usage("--type does not go with --policy", "a policy.json is about signatures; name the key or identity that attests");
    return verifyAttestation({ ...request, requirement, predicateType: options.type }, { signal: shell.signal });
  });
  if (verified.basis !== "signed" && (options.annotation ?? []).length > 0)
    throw usage("the policy demands no signature, so none can carry the annotation");
  const { target, basis, policy, report } = verified;
  const what = basis === "signed" ? "is signed" : "is accepted without a signature";
  await shell.result([`${name} ${what}: ${target.digest}`, ...findingLines(report)].join("\n"), {
    verified: true,
    basis,
    policy,
    ...report,
  });
};

export const verify = overList(verifyOne, {
  command: "verify",
  names: ["IMAGE"],
  required: 1,
  staysDone: ([image = ""]) => /[@:]sha(?:256|512):[0-9a-f]{64,128}$/.test(image),
});

/** Every signature that was found, and why it counted or not. What says something else, such as a seal's facts, is no fault. */
function findingLines({ findings, leftOut }: SignatureReport): readonly string[] {
  const lines = findings.map((finding) => {
    if (finding.verdict === "counts") {
      const { signatory } = finding;
      return `  counts    ${finding.format}  ${finding.location}  ${signatory.kind === "key" ? signatory.source : `${signatory.subject} (${signatory.issuer})`}`;
    }
    const verdict = finding.check === "predicate" ? "other   " : "rejected";
    return `  ${verdict}  ${finding.format}  ${finding.location}  ${finding.check}: ${finding.reason}`;
  });
  return [...lines.map(printable), ...(leftOut > 0 ? [`  ${leftOut} more were not examined`] : [])];
}
