import {
  loadPublicKey,
  verifyAttestation,
  verifyImage,
  type LogRule,
  type SignatureReport,
  type VerifiedSignature,
} from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import { keyValues } from "../key-values.ts";
import { printable } from "../table.ts";

interface VerifyOptions extends RegistryFlags {
  readonly key?: string;
  readonly tlog?: string;
  readonly annotation?: readonly string[];
  readonly type?: string;
  readonly signatureRepository?: string;
}

const logRules: ReadonlySet<string> = new Set(["required", "if-present", "ignore"]);

export const verify: Action<VerifyOptions> = async (shell, [name], options) => {
  if (name === undefined) throw usage("no image was named");
  const { key, tlog = "if-present", type } = options;
  if (!logRules.has(tlog)) throw usage(`--tlog takes required, if-present or ignore, not ${tlog}`);
  if (key === undefined)
    throw usage(
      "nothing says who must have signed",
      "give --key FILE, --certificate-identity with --certificate-oidc-issuer, or --policy FILE",
    );
  const publicKey = loadPublicKey({ bytes: await readSmallFile(key, "public key"), source: key });
  const verified = await withImages(shell, options, async (images): Promise<VerifiedSignature> => {
    const { image, root: target } = await images.resolve(name);
    const signatureStore =
      options.signatureRepository === undefined ? undefined : (await images.open(options.signatureRepository, "read")).store;
    const request = {
      store: image.store,
      target,
      requirement: { kind: "keys" as const, keys: [publicKey] as const, log: tlog as LogRule },
      claims: { annotations: keyValues("-a", options.annotation) },
      signatureStore,
    };
    return type === undefined
      ? await verifyImage(request, { signal: shell.signal })
      : await verifyAttestation({ ...request, predicateType: type }, { signal: shell.signal });
  });
  await shell.result([`${name} is signed: ${verified.target.digest}`, ...findingLines(verified.report)].join("\n"), {
    verified: true,
    ...verified.report,
  });
};

/** Every signature that was found, and why it counted or not. */
export function findingLines({ findings, leftOut }: SignatureReport): readonly string[] {
  const lines = findings.map((finding) =>
    finding.verdict === "counts"
      ? `  counts    ${finding.format}  ${finding.location}  ${finding.signatory.kind === "key" ? finding.signatory.source : `${finding.signatory.subject} (${finding.signatory.issuer})`}`
      : `  rejected  ${finding.format}  ${finding.location}  ${finding.check}: ${finding.reason}`,
  );
  return [...lines.map(printable), ...(leftOut > 0 ? [`  ${leftOut} more were not examined`] : [])];
}
