import { signImage, signImageTree, type SignatureFormat } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { repositoryOf, withImages, type RegistryFlags } from "../images.ts";
import { signerOf, type SignerOptions } from "../signing-settings.ts";
import { keyValues } from "../key-values.ts";

interface SignOptions extends RegistryFlags, SignerOptions {
  readonly format: string;
  readonly annotation?: readonly string[];
  readonly recursive: boolean;
  readonly signatureRepository?: string;
  readonly dryRun?: boolean;
}

const formats: ReadonlySet<string> = new Set(["both", "legacy", "bundle"]);

export const sign: Action<SignOptions> = async (shell, [name = ""], options) => {
  const { format } = options;
  if (!formats.has(format)) throw usage(`--format takes both, legacy or bundle, not ${format}`);
  const signer = await signerOf(shell, options);
  const signed = await withImages(shell, options, async (images) => {
    const { image, root: target } = await images.resolve(name);
    if (options.dryRun === true) return [];
    const store = (await images.open(name, "write")).store;
    const signatureStore =
      options.signatureRepository === undefined ? undefined : (await images.open(options.signatureRepository, "write")).store;
    const request = {
      store,
      target,
      reference: repositoryOf(image.name),
      signer,
      format: format as SignatureFormat,
      annotations: keyValues("-a", options.annotation),
      signatureStore,
      now: new Date(),
    };
    return options.recursive
      ? await signImageTree(request, { signal: shell.signal })
      : [await signImage(request, { signal: shell.signal })];
  });
  const lines = signed.map(
    ({ target, legacy, bundle }) =>
      `signed ${target.digest}: ${[legacy && `${legacy.tag} (${legacy.outcome})`, bundle && `bundle ${bundle.manifest.digest} (${bundle.outcome})`].filter(Boolean).join(", ")}`,
  );
  await shell.result(options.dryRun === true ? "dry run: nothing was signed" : lines.join("\n"), { signed });
};
