import type { Descriptor, ImageName } from "../src/oci/index.ts";
import { keepSourceSignatures, listCompanions, rebindReferrers, type BoundReferrer, type SourceSignature } from "../src/signing/index.ts";
import type { ContentStore } from "../src/store/index.ts";
import { usage } from "./errors.ts";
import type { Shell } from "./shell.ts";
import { counted } from "./table.ts";

/** What becomes of the source's signatures: they are of the plaintext digest and cannot be of the ciphertext's. */
export interface SourceOptions {
  readonly sourceSignatures?: string;
  readonly sourcePolicy?: string;
  readonly sourceKey?: string;
  readonly referrers?: boolean;
}

export interface Source {
  readonly store: ContentStore;
  readonly name: ImageName;
  readonly root: Descriptor;
}

export interface SourceSignatures {
  /** Verified before sealing; stated in the seal attestation. */
  readonly signatures: readonly SourceSignature[];
  /** Copies to the destination what shall follow. */
  /** Gives what now refers to the sealed image: it belongs into the seal attestation, whose signature binds it. */
  carry(destination: ContentStore, target: Descriptor): Promise<readonly BoundReferrer[]>;
}

/** Verifies, keeps or leaves behind, and says which. Throws what verifying throws: an unverified source is never sealed. */
export async function examineSource(shell: Shell, { store, name, root }: Source, options: SourceOptions): Promise<SourceSignatures> {
  const { sourceSignatures: mode = "drop", sourcePolicy, sourceKey } = options;
  if (mode !== "keep" && mode !== "drop" && mode !== "require") throw usage(`--source-signatures takes keep, drop or require, not ${mode}`);
  const mustVerify = sourcePolicy !== undefined || sourceKey !== undefined;
  if (mode === "require" && !mustVerify)
    throw usage("--source-signatures require needs to know whose", "give --source-key FILE or --source-policy FILE");
  const call = { signal: shell.signal };
  const signatures = mustVerify
    ? await (await import("./verify-source.ts")).verifySource(shell, { store, name, root }, { sourcePolicy, sourceKey })
    : [];
  if (mode === "require" && signatures.length === 0)
    throw usage("the policy accepts the source without any signature", "demand one in the policy, or give --source-key FILE");
  const { legacySignatures, bundles, others } = await listCompanions(store, root, call);
  const count = legacySignatures + bundles.length;
  if (mode !== "keep" && count > 0)
    shell.note(`left behind: ${counted(count, "signature")} of the source (--source-signatures keep copies them)`);
  const follow = options.referrers === true;
  if (others.length > 0 && !follow)
    shell.note(
      `left behind: ${counted(others.length, "other referrer")} of the source (--referrers takes them along): ${others.map(({ artifactType }) => artifactType).join(", ")}`,
    );
  return {
    signatures,
    async carry(destination, target) {
      if (mode === "keep" && count > 0) await keepSourceSignatures({ source: store, from: root, destination }, call);
      return follow ? rebindReferrers({ source: store, from: root, destination, to: target, companions: others }, call) : [];
    },
  };
}
