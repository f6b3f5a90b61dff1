import type { KeyWrapper } from "../src/keywrap/index.ts";
import type { Descriptor, ImageName } from "../src/oci/index.ts";
import type { LayerReport } from "../src/pipeline/index.ts";
import { attestSeal, signImageTree, type BoundReferrer, type SignedImage, type SourceSignature } from "../src/signing/index.ts";
import type { ContentStore } from "../src/store/index.ts";
import { repositoryOf } from "./images.ts";
import { sealFacts } from "./seal-facts.ts";
import type { Shell } from "./shell.ts";
import { signerByName } from "./signing-keys.ts";

/** What the seal attestation states besides where the image is. */
export interface Sealed {
  readonly source: Descriptor;
  readonly layers: readonly LayerReport[];
  readonly wrappers: readonly KeyWrapper[];
  readonly sourceSignatures: readonly SourceSignature[];
  readonly referrers: readonly BoundReferrer[];
}

/** Signs what a command made, before its name moves to it. */
export interface ResultSigner {
  sign(store: ContentStore, name: ImageName, target: Descriptor): Promise<readonly SignedImage[]>;
  attest(store: ContentStore, name: ImageName, target: Descriptor, sealed: Sealed): Promise<void>;
}

/** Reads the key of `--sign-key`. Commands load this module only for that flag. */
export async function openResultSigner(shell: Shell, file: string): Promise<ResultSigner> {
  const signer = await signerByName(shell, file);
  const call = { signal: shell.signal };
  const requestOf = (store: ContentStore, name: ImageName, target: Descriptor) => {
    return { store, target, reference: repositoryOf(name), signer, now: new Date() };
  };
  return {
    sign: (store, name, target) => signImageTree({ ...requestOf(store, name, target), format: "both" }, call),
    async attest(store, name, target, { source, layers, wrappers, sourceSignatures, referrers }) {
      await attestSeal(
        { ...requestOf(store, name, target), facts: { ...sealFacts(source, layers, wrappers, sourceSignatures), referrers } },
        call,
      );
    },
  };
}
