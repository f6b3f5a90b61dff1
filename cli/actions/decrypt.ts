import { parsePlatform } from "../../src/oci/index.ts";
import { decryptImage } from "../../src/pipeline/index.ts";
import { checkDigest } from "../../src/transport/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { destinationFor, betweenImages, type RegistryFlags } from "../images.ts";
import type { KbsOptions } from "../kbs-connection.ts";
import { openKeys } from "../open-keys.ts";
import { showProgress } from "../progress.ts";
import { reportTable } from "../report-text.ts";
import { engineOf } from "./encrypt.ts";

interface DecryptOptions extends RegistryFlags, KbsOptions {
  readonly key?: readonly string[];
  readonly decryptionKey?: readonly string[];
  readonly platform?: readonly string[];
  readonly engine?: string;
  readonly dryRun?: boolean;
}

export const decrypt: Action<DecryptOptions> = async (shell, [source = "", destination = ""], options) => {
  const values = [...(options.key ?? []), ...(options.decryptionKey ?? [])];
  if (values.length === 0) throw usage("no key was given", "give at least one -k, for example -k team.key or -k kbs");
  const mode = options.dryRun === true ? "plan" : "write";
  const report = await betweenImages(shell, options, { source, destination }, async (images) => {
    const { image: from, root } = await images.resolve(source);
    const to = mode === "plan" ? from : await images.open(destination, "write");
    const keys = await openKeys(shell, values, options);
    const progress = await showProgress(shell);
    try {
      return await decryptImage(
        {
          from: from.store,
          root,
          to: { store: destinationFor(from, to), reference: to.reference, beforeTag: async (target) => checkDigest(to, target) },
          unwrappers: keys.unwrappers,
          platforms: (options.platform ?? []).map((text) => parsePlatform(text)),
          engine: engineOf(options.engine),
          mode,
          concurrency: options.concurrency,
          onProgress: progress.onProgress,
        },
        { signal: shell.signal },
      );
    } finally {
      progress.stop();
      await keys.close();
    }
  });
  const last = mode === "plan" ? "dry run: nothing was written" : `${destination} is now ${report.result.digest}`;
  await shell.result([reportTable(report, shell.stdout.columns), last].join("\n"), report);
};
