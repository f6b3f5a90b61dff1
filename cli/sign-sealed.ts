import type { Descriptor, ImageName } from "../src/oci/index.ts";
import { attestSeal, signImageTree, type SealFacts, type SignedImage } from "../src/signing/index.ts";
import type { ContentStore } from "../src/store/index.ts";
import { repositoryOf } from "./images.ts";
import type { Shell } from "./shell.ts";
import { signerByName } from "./signing-keys.ts";

/** Signs what a command made, before its name moves to it. */
export interface ResultSigner {
  sign(store: ContentStore, name: ImageName, target: Descriptor): Promise<readonly SignedImage[]>;
  attest(store: ContentStore, name: ImageName, target: Descriptor, facts: SealFacts): Promise<void>;
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
    async attest(store, name, target, facts) {
      await attestSeal({ ...requestOf(store, name, target), facts }, call);
    },
  };
}
