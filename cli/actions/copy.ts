import { parseImageName } from "../../src/oci/index.ts";
import { copyImage } from "../../src/transport/index.ts";
import type { Action } from "../command.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import { showProgress } from "../progress.ts";
import { formatSize } from "../table.ts";

interface CopyOptions extends RegistryFlags {
  readonly referrers?: boolean;
}

export const copy: Action<CopyOptions> = async (shell, [source = "", destination = ""], options) => {
  const done = await withImages(shell, options, async ({ transport, credentials, registriesConf }) => {
    const progress = await showProgress(shell);
    try {
      return await copyImage({
        source: parseImageName(source),
        destination: parseImageName(destination),
        transport,
        registriesConf,
        sourceCredentials: credentials,
        destinationCredentials: credentials,
        referrers: options.referrers === true ? "follow" : "ignore",
        onProgress: progress.onProgress,
        signal: shell.signal,
        ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
      });
    } finally {
      progress.stop();
    }
  });
  const { root, ...summary } = done;
  await shell.result(
    `${destination} is now ${root.digest} (${summary.pushed} objects, ${formatSize(summary.pushedBytes)} moved; ${summary.present + summary.mounted} were there)`,
    { digest: root.digest, mediaType: root.mediaType, ...summary },
  );
};
