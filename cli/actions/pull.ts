import { agentMeasurementSink, pullImage, type PullOutput, type Verification } from "../../src/guest/index.ts";
import { parseImageName, type ImageName } from "../../src/oci/index.ts";
import { tuneCollector } from "../collector.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { withImages } from "../images.ts";
import type { KbsOptions } from "../kbs-connection.ts";
import { openKeys, type OpenedKeys } from "../open-keys.ts";
import { observed, withProgress } from "../progress.ts";
import type { Shell } from "../shell.ts";
import { requirementOf } from "../signing-settings.ts";
import { treeSettings, type TreeOptions } from "./unpack.ts";
import { counted } from "../table.ts";

interface PullFlags extends TreeOptions, KbsOptions {
  readonly policy?: string;
  readonly registriesD?: string;
  readonly verifyKey?: string;
  readonly insecureAcceptUnsigned?: boolean;
  readonly key?: readonly string[];
  readonly keepEncrypted?: boolean;
  readonly record?: string;
  readonly layerCache?: string;
  readonly aa?: string;
  readonly requireSealAttestation?: boolean;
}

/**
 * The collector's default for a heap of 10 MiB is to mark all of it at every few MiB of buffers that come and go, 130 times
 * for each GiB. Letting the heap grow to four times its live size between two marks costs 10 MiB and saves a fifth of the
 * processor time of a pull (measured with 1 GiB: 5.5 s instead of 7.1).
 */
const collectorFlag = "--heap-growing-percent=300";

export const pull: Action<PullFlags> = async (shell, [name = "", target = ""], options) => {
  tuneCollector(collectorFlag);
  const output = outputOf(options);
  const verification = await verificationOf(shell, options, parseImageName(name));
  // With no key named, a KBS that was named is the one to ask.
  const values = options.key ?? ((options.kbs ?? shell.env["OCISEAL_KBS_URL"]) ? ["kbs"] : []);
  let keys: OpenedKeys | undefined;
  const report = await withImages(shell, options, async (images) => {
    const image = await images.open(name, "read");
    try {
      return await withProgress(shell, (onProgress) =>
        pullImage(
          {
            store: observed(shell, image.store, onProgress),
            reference: image.reference,
            verification,
            target,
            output,
            name,
            layerCache: options.layerCache,
            recordFile: options.record,
            seal: options.requireSealAttestation === true ? "required" : undefined,
            measure: options.aa === undefined ? undefined : agentMeasurementSink({ url: options.aa }),
            ...treeSettings(shell, options),
            // Called only once the image is admitted: nothing is attested for an image that nobody vouches for.
            openKeys: async () => {
              keys = await openKeys(shell, values, options);
              return keys.unwrappers;
            },
          },
          {
            signal: shell.signal,
            onEvent: (event) => {
              if (event.kind === "admitted") shell.note(`admitted ${event.image.manifest.digest}: ${event.image.signature.basis}`);
              if (event.kind === "opened") shell.note(`keys at hand for ${counted(event.layers.length, "layer")}`);
            },
          },
        ),
      );
    } finally {
      await keys?.close();
    }
  });
  await shell.result(`${target} is ${report.image.manifest.digest} (${counted(report.layers.length, "layer")})`, report);
};

function outputOf({ output, keepEncrypted = false }: PullFlags): PullOutput {
  if (keepEncrypted && output !== "oci") throw usage("--keep-encrypted goes with --output oci");
  if (output === "oci") return keepEncrypted ? "oci-encrypted" : "oci";
  if (output === "rootfs" || output === "bundle" || output === "overlay") return output;
  throw usage(`--output takes rootfs, bundle, oci or overlay, not ${output}`);
}

async function verificationOf(shell: Shell, options: PullFlags, name: ImageName): Promise<Verification> {
  const { policy, verifyKey, insecureAcceptUnsigned = false } = options;
  const ways = [policy, verifyKey, insecureAcceptUnsigned ? "unsigned" : undefined].filter((way) => way !== undefined);
  if (ways.length !== 1) {
    throw usage(
      ways.length === 0 ? "nothing says whose images may run here" : "give one of --policy, --verify-key and --insecure-accept-unsigned",
      "give --verify-key FILE or --policy FILE",
    );
  }
  if (insecureAcceptUnsigned) {
    shell.warn("this image is taken although nobody checked who made it");
    return { kind: "insecure-accept-unsigned" };
  }
  const requirement = await requirementOf(
    shell,
    verifyKey !== undefined ? { key: verifyKey } : policy === undefined ? {} : { policy },
    name,
  );
  return { kind: "signature", requirement };
}
