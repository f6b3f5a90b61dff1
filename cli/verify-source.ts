import { verifyImage, type SourceSignature } from "../src/signing/index.ts";
import type { Shell } from "./shell.ts";
import { requirementOf } from "./signing-settings.ts";
import type { Source } from "./source-signatures.ts";

/** Verifies the source as `--source-key` or `--source-policy` demands; loaded only for these. Throws what verifying throws. */
export async function verifySource(
  shell: Shell,
  { store, name, root }: Source,
  { sourcePolicy, sourceKey }: { readonly sourcePolicy: string | undefined; readonly sourceKey: string | undefined },
): Promise<readonly SourceSignature[]> {
  // Both at once is refused there: neither may be skipped for the other.
  const named = { ...(sourceKey === undefined ? {} : { key: sourceKey }), ...(sourcePolicy === undefined ? {} : { policy: sourcePolicy }) };
  const requirement = await requirementOf(shell, named, name);
  const verified = await verifyImage({ store, target: root, requirement }, { signal: shell.signal });
  return verified.signatures.map(({ format, signatory }) => ({
    format,
    signatory: signatory.kind === "key" ? `key:${signatory.fingerprint}` : `certificate:${signatory.subject} (${signatory.issuer})`,
  }));
}
