import { unpackImage, type UnpackLimits } from "../../src/guest/index.ts";
import { parsePlatform } from "../../src/oci/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { requireNumber, withImages, type RegistryFlags } from "../images.ts";
import { observed, withProgress } from "../progress.ts";
import type { Shell } from "../shell.ts";
import { counted, formatSize } from "../table.ts";
import { readLimits } from "../unpack-limits.ts";

export interface TreeOptions extends RegistryFlags {
  readonly output: string;
  readonly platform?: string;
  readonly rootless?: boolean;
  readonly specials?: string;
  readonly maxUnpackedSize?: number;
  readonly maxEntries?: number;
  readonly limit?: readonly string[];
}

export const unpack: Action<TreeOptions> = async (shell, [name = "", target = ""], options) => {
  const { output } = options;
  if (output !== "rootfs" && output !== "bundle") throw usage(`--output takes rootfs or bundle, not ${output}`);
  const report = await withImages(shell, options, async (images) => {
    const { image, root } = await images.resolve(name);
    return withProgress(shell, (onProgress) =>
      unpackImage(
        { store: observed(shell, image.store, onProgress), root, target, output, ...treeSettings(shell, options) },
        { signal: shell.signal },
      ),
    );
  });
  await shell.result(
    `${target}: ${counted(report.entries, "entry", "entries")} of ${counted(report.layers, "layer")}, ${formatSize(report.bytes)}`,
    report,
  );
};

/** What `unpack` and `pull` share. */
export function treeSettings(
  shell: Shell,
  options: TreeOptions,
): {
  readonly limits: Partial<UnpackLimits>;
  readonly ownership?: { readonly kind: "rootless" };
  readonly specials?: "require" | "skip";
  readonly platform?: ReturnType<typeof parsePlatform>;
} {
  const { specials, platform, maxUnpackedSize, maxEntries, limit = [] } = options;
  if (specials !== undefined && specials !== "require" && specials !== "skip")
    throw usage(`--specials takes require or skip, not ${specials}`);
  requireNumber("--max-unpacked-size", maxUnpackedSize, 0);
  requireNumber("--max-entries", maxEntries, 0);
  return {
    limits: {
      ...readLimits(limit),
      ...(maxUnpackedSize === undefined ? {} : { maxBytes: maxUnpackedSize }),
      ...(maxEntries === undefined ? {} : { maxEntries }),
    },
    ...(isRootless(shell, options) ? { ownership: { kind: "rootless" } } : {}),
    ...(specials === undefined ? {} : { specials }),
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
  };
}

/** Only root can give files away; anybody else unpacks for themselves, and is told so. */
function isRootless(shell: Shell, { rootless = false }: TreeOptions): boolean {
  if (rootless || process.getuid === undefined || process.getuid() === 0) return rootless;
  shell.note("not root: all files will belong to you, and devices become empty files (--rootless)");
  return true;
}
