import type { Descriptor } from "../src/oci/index.ts";
import type { LayerReport } from "../src/pipeline/index.ts";
import {
  listCompanions,
  rebindReferrers,
  SigningError,
  verifySealAttestation,
  type BoundReferrer,
  type SealFacts,
  type VerifiedSeal,
} from "../src/signing/index.ts";
import type { ContentStore } from "../src/store/index.ts";
import type { Shell } from "./shell.ts";
import { requirementOf } from "./signing-settings.ts";
import type { Source } from "./source-signatures.ts";
import { readVersion } from "./version.ts";
import { counted } from "./table.ts";

/** Without these there is no statement to renew; guests that demand one refuse the new image as they should. */
const none: ReadonlySet<string> = new Set(["ERR_SIGNATURE_MISSING", "ERR_SIGNATURE_REJECTED", "ERR_SEAL_ATTESTATION_UNVERIFIABLE"]);

/**
 * The seal attestation of an image whose recipients change, by whoever had to sign it; `undefined` when there is none.
 * Throws when good statements disagree, or cannot be read.
 */
export async function sealToRenew(
  shell: Shell,
  { store, name, root }: Source,
  named: { readonly key?: string; readonly policy?: string },
): Promise<VerifiedSeal | undefined> {
  const requirement = await requirementOf(shell, named, name);
  try {
    return await verifySealAttestation({ store, target: root, requirement }, { signal: shell.signal });
  } catch (error) {
    if (!(error instanceof SigningError) || !none.has(error.code)) throw error;
    shell.note("the image has no seal attestation by whoever had to sign it, so the new manifest gets none");
    return undefined;
  }
}

/**
 * What the renewed attestation states: the plaintext is what it was, the recipients are the new ones. SBOMs and other
 * referrers that the old statement bound follow to the new manifest.
 */
export async function renewedFacts(
  request: {
    readonly seal: VerifiedSeal;
    readonly from: ContentStore;
    readonly to: ContentStore;
    readonly target: Descriptor;
    readonly layers: readonly LayerReport[];
  },
  options: { readonly signal: AbortSignal },
): Promise<SealFacts> {
  const { seal, from, to, target, layers } = request;
  return {
    ...seal.facts,
    recipients: recipientsOf(layers),
    referrers: await followingReferrers(request, from, to, target, options),
    tool: { name: "ociseal", version: readVersion() },
    sealedAt: new Date(),
  };
}

/** As the attestation of encrypt names them: a key at the KBS by its URI alone. */
function recipientsOf(layers: readonly LayerReport[]): readonly string[] {
  const names = layers.flatMap(({ recipients = [] }) => recipients.map((name) => name.replace(/^[^:]+:(?=kbs:)/, "")));
  return [...new Set(names)];
}

async function followingReferrers(
  { seal }: { readonly seal: VerifiedSeal },
  source: ContentStore,
  destination: ContentStore,
  to: Descriptor,
  options: { readonly signal: AbortSignal },
): Promise<readonly BoundReferrer[]> {
  const { others } = await listCompanions(source, seal.target, options);
  const followed: BoundReferrer[] = [];
  for (const referrer of seal.facts.referrers) {
    // Bundles stand under the plaintext's digest and are found there still.
    const companions = others.filter(({ descriptor }) => descriptor.digest === referrer.bound);
    const [moved] = await rebindReferrers({ source, from: seal.target, destination, to, companions }, options);
    followed.push({ ...referrer, bound: moved?.bound ?? referrer.bound });
  }
  return followed;
}

/** Says what is about the old manifest, and so stays with it. */
export async function noteLeftBehind(shell: Shell, { store, root }: Pick<Source, "store" | "root">): Promise<void> {
  const { legacySignatures, bundles, others } = await listCompanions(store, root, { signal: shell.signal });
  const [signatures, rest] = [legacySignatures + bundles.length, others.length];
  if (signatures + rest > 0)
    shell.note(
      `of the old manifest, and staying with it: ${counted(signatures, "signature or attestation", "signatures or attestations")}, ${counted(rest, "other referrer")} (--sign-key signs the new one)`,
    );
}
