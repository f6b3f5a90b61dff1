import { loadSigner, signImage, signImageTree, type SignatureFormat } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { repositoryOf, withImages, type RegistryFlags } from "../images.ts";
import { cosignPassword } from "../password.ts";
import { keyValues } from "../key-values.ts";

interface SignOptions extends RegistryFlags {
  readonly key?: string;
  readonly format: string;
  readonly annotation?: readonly string[];
  readonly recursive: boolean;
  readonly signatureRepository?: string;
  readonly dryRun?: boolean;
}

const formats: ReadonlySet<string> = new Set(["both", "legacy", "bundle"]);

export const sign: Action<SignOptions> = async (shell, [name = ""], options) => {
  const { key, format } = options;
  if (!formats.has(format)) throw usage(`--format takes both, legacy or bundle, not ${format}`);
  if (key === undefined) throw usage("no key was given", "give --key FILE; ociseal key generate cosign makes one");
  const signer = await loadSigner({ pem: await readSmallFile(key, "signing key"), source: key, password: cosignPassword(shell, key) });
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
