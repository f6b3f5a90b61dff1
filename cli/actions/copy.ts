import { parseImageName, parsePlatform } from "../../src/oci/index.ts";
import { copyImage, planCopy } from "../../src/transport/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { withImages, type Images, type RegistryFlags } from "../images.ts";
import { withProgress } from "../progress.ts";
import { formatSize } from "../table.ts";

interface CopyOptions extends RegistryFlags {
  readonly referrers?: boolean;
  readonly platform?: readonly string[];
  readonly encryptionKey?: readonly string[];
  readonly encryptLayer?: readonly string[];
  readonly decryptionKey?: readonly string[];
  readonly dryRun?: boolean;
}

/** With skopeo's flags a copy encrypts or decrypts as skopeo does: for readers of ocicrypt's cipher, which is all that skopeo writes. */
export const copy: Action<CopyOptions> = async (shell, args, options) => {
  const { encryptionKey, decryptionKey, encryptLayer } = options;
  if (encryptionKey !== undefined && decryptionKey !== undefined)
    throw usage("--encryption-key does not go with --decryption-key", "change recipients with ociseal rewrap");
  if (encryptLayer !== undefined && encryptionKey === undefined) throw usage("--encrypt-layer goes with --encryption-key");
  if (encryptionKey !== undefined) {
    const { encrypt } = await import("./encrypt.ts");
    await encrypt(shell, args, { ...options, profile: "ocicrypt" });
  } else if (decryptionKey === undefined) {
    await plainCopy(shell, args, options);
  } else {
    const { decrypt } = await import("./decrypt.ts");
    await decrypt(shell, args, options);
  }
};

const plainCopy: Action<CopyOptions> = async (shell, [source = "", destination = ""], options) => {
  const request = (transport: Images["registries"]) => ({
    source: parseImageName(source),
    destination: parseImageName(destination),
    transport,
    platforms: (options.platform ?? []).map((text) => parsePlatform(text)),
    signal: shell.signal,
  });
  if (options.dryRun === true) {
    const { digest, mediaType, size } = await withImages(shell, options, ({ registries }) => planCopy(request(registries)));
    await shell.result(`dry run: ${destination} would become ${digest}`, { digest, mediaType, size, dryRun: true });
    return;
  }
  const done = await withImages(shell, options, ({ registries }) =>
    withProgress(shell, (onProgress) =>
      copyImage({
        ...request(registries),
        referrers: options.referrers === true ? "follow" : "ignore",
        onProgress,
        ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
      }),
    ),
  );
  const { root, ...summary } = done;
  await shell.result(
    `${destination} is now ${root.digest} (${summary.pushed} objects, ${formatSize(summary.pushedBytes)} moved; ${summary.present + summary.mounted} were there)`,
    { digest: root.digest, mediaType: root.mediaType, ...summary },
  );
};
