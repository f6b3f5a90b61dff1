import { formatImageName } from "../../src/oci/index.ts";
import {
  describeImage,
  type ImageDescription,
  type LayerAddress,
  type LayerDescription,
  type PlatformDescription,
} from "../../src/pipeline/index.ts";
import type { ToolError } from "../../src/errors/index.ts";
import type { Action } from "../command.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import { counted, formatSize, formatTable, printable, wrapped } from "../table.ts";

export const inspect: Action<RegistryFlags> = async (shell, [name = ""], options) => {
  const description = await withImages(shell, options, async (images) => {
    const { image, root } = await images.resolve(name);
    const described = await describeImage({ store: image.store, root }, { signal: shell.signal });
    const { fallbackTagOf } = await import("../../src/store/index.ts");
    const tags = await image.store.tags({ signal: shell.signal });
    const companionsOf = async (target: LayerAddress): Promise<readonly Companion[]> => {
      const companions = tags.filter((tag) => tag.startsWith(`${fallbackTagOf(target.digest)}.`));
      const referrers = await image.store.referrers(target, { signal: shell.signal });
      return [
        ...companions.map((tag) => ({ kind: "tag", name: tag })),
        ...referrers.map(({ digest, artifactType }) => ({ kind: "referrer", name: artifactType ?? "unknown", digest })),
      ];
    };
    // An index may be signed with its members or without them.
    const platforms: (PlatformDescription & Signed)[] = [];
    for (const platform of described.platforms) platforms.push({ ...platform, signatures: await companionsOf(platform.manifest) });
    return { ...described, name: formatImageName(image.name), platforms, signatures: await companionsOf(root) };
  });
  await shell.result(textOf(description, shell.stdout.columns), plainOf(description));
};

interface Companion {
  readonly kind: string;
  readonly name: string;
  readonly digest?: string;
}

interface Signed {
  readonly signatures: readonly Companion[];
}

type Described = Omit<ImageDescription, "platforms"> & Signed & { readonly platforms: readonly (PlatformDescription & Signed)[] };

function textOf(description: Described, width: number | undefined): string {
  const { root, platforms, attached, warnings, signatures } = description;
  const lines = [description.name, `${root.digest}  ${root.mediaType}`, ""];
  for (const { image, manifest, layers, clear, signatures: own } of platforms) {
    lines.push(`${image}  ${manifest.digest}`);
    lines.push(formatTable(["LAYER", "SIZE", "CIPHER", "DIGEST"], layers.map(layerRow), width));
    lines.push(...recipientLines(layers));
    for (const { position, encryption, problem } of layers) {
      for (const { code, message } of [...(encryption?.problems ?? []), ...(problem === undefined ? [] : [problem])])
        lines.push(`  layer ${position}: ${message} [${code}]`);
    }
    if (clear !== undefined) {
      lines.push(
        `readable by anyone: ${counted(clear.env.length, "environment variable")}, ${counted(Object.keys(clear.labels).length, "label")}, ${counted(clear.history.length, "history line")}, ${counted(clear.diffIds.length, "diffID")}, entrypoint ${printable(JSON.stringify([...clear.entrypoint, ...clear.cmd]))}`,
      );
    }
    if (manifest.digest !== root.digest) lines.push(...companionLines(own));
    lines.push("");
  }
  if (attached.length > 0) lines.push(`attached: ${counted(attached.length, "attestation manifest")}`);
  lines.push(...companionLines(signatures));
  for (const warning of warnings) lines.push(`note: ${printable(warning)}`);
  return lines.map((line) => (/^(opened|layer|readable|note)/.test(line) ? wrapped(line, width) : line)).join("\n");
}

function companionLines(found: readonly Companion[]): readonly string[] {
  const title = found.length === 0 ? "signatures: none found" : "signatures and referrers (not verified; see ociseal verify):";
  return [title, ...found.map(({ kind, name }) => `  ${kind} ${printable(name)}`)];
}

function layerRow({ position, size, digest, encryption }: LayerDescription): readonly string[] {
  return [String(position), formatSize(size), encryption === undefined ? "plain" : (encryption.cipher ?? "unknown"), digest];
}

/** Who opens which layers; equal recipients on one line, whatever the schemes of their packets. */
function recipientLines(layers: readonly LayerDescription[]): readonly string[] {
  const found = new Map<string, { readonly schemes: Set<string>; readonly positions: Set<number> }>();
  for (const { position, encryption } of layers) {
    for (const { scheme, id = "(not named)" } of encryption?.recipients ?? []) {
      const entry = found.get(id) ?? { schemes: new Set(), positions: new Set() };
      found.set(id, entry);
      entry.schemes.add(scheme);
      entry.positions.add(position);
    }
  }
  const encrypted = layers.filter(({ encryption }) => encryption !== undefined).length;
  return [...found].map(([id, { schemes, positions }]) => {
    const which = positions.size === encrypted ? "opened by" : `layer ${[...positions].join(", ")} opened by`;
    return `${which} ${printable(id)} (${[...schemes].join(", ")})`;
  });
}

/** Errors become what `--json` shows of them. */
function plainOf(description: Described): unknown {
  const problem = ({ code, message, hint }: ToolError) => ({ code, message, hint });
  return {
    ...description,
    platforms: description.platforms.map((platform) => ({
      ...platform,
      layers: platform.layers.map(({ encryption, problem: found, ...layer }) => ({
        ...layer,
        encrypted: encryption !== undefined,
        ...(encryption === undefined ? {} : { encryption: { ...encryption, problems: encryption.problems.map(problem) } }),
        ...(found === undefined ? {} : { problem: problem(found) }),
      })),
    })),
  };
}
