import { checkEncryptionMark, describeEncryption, type EncryptionDescription } from "../layer/index.ts";
import { formatPlatform, isManifestMediaType, type Descriptor, type ImageConfig } from "../oci/index.ts";
import { readConfig, type CallOptions, type ContentStore } from "../store/index.ts";
import { ToolError } from "../errors/index.ts";
import { buildHistoryOf } from "./build-history.ts";
import { imagesOf, labelOf, readImageTree, type ImageNode, type ManifestNode } from "./image-tree.ts";
import { addressOf, type LayerAddress } from "./layer-report.ts";

/** One layer as anybody can see it. */
export interface LayerDescription extends LayerAddress {
  readonly position: number;
  /** Absent for a plain layer. */
  readonly encryption?: EncryptionDescription;
  /** A disagreement between marks and annotations, in a layer that looks plain. */
  readonly problem?: ToolError;
}

/** What of an image everybody with the registry can read, encrypted or not. */
export interface ClearContent {
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly history: readonly string[];
  /** Members of the configuration that tell how it was built: `history`, and those of docker and BuildKit. */
  readonly buildRecords: readonly string[];
  readonly diffIds: readonly string[];
}

export interface PlatformDescription {
  /** Platform, or the start of the manifest's digest. */
  readonly image: string;
  readonly manifest: LayerAddress;
  readonly layers: readonly LayerDescription[];
  /** `undefined` when the configuration is not that of an image. */
  readonly clear: ClearContent | undefined;
}

export interface ImageDescription {
  readonly name: string;
  readonly root: LayerAddress;
  readonly platforms: readonly PlatformDescription[];
  /** Entries carried along in the index: attestations and artifacts. */
  readonly attached: readonly LayerAddress[];
  /** What leaks although layers are encrypted, one sentence each. */
  readonly warnings: readonly string[];
}

/** Says what is encrypted how and for whom, and what stays readable. Verifies no key and no signature. */
export async function describeImage(
  request: { readonly store: ContentStore; readonly root: Descriptor },
  options: CallOptions = {},
): Promise<ImageDescription> {
  const { store, root } = request;
  const tree = await readImageTree({ store, root }, options);
  const platforms: PlatformDescription[] = [];
  const attached = opaqueOf(tree);
  for (const node of imagesOf(tree)) {
    const config = await configOf(store, node, options);
    platforms.push({
      image: config === undefined || node.platform !== undefined ? labelOf(node) : formatPlatform(config.config),
      manifest: addressOf(node.descriptor),
      layers: node.manifest.layers.map(describeLayer),
      clear: config === undefined ? undefined : clearOf(config),
    });
  }
  return {
    name: store.name,
    root: addressOf(root),
    platforms,
    attached: attached.map(addressOf),
    warnings: warningsOf(platforms, attached.length),
  };
}

function describeLayer(layer: Descriptor, position: number): LayerDescription {
  const encryption = describeEncryption(layer);
  if (encryption !== undefined) return { position, ...addressOf(layer), encryption };
  try {
    checkEncryptionMark(layer);
  } catch (error) {
    if (error instanceof ToolError) return { position, ...addressOf(layer), problem: error };
    throw error;
  }
  return { position, ...addressOf(layer) };
}

interface ReadConfig {
  readonly bytes: Buffer;
  readonly config: ImageConfig;
}

async function configOf(store: ContentStore, node: ManifestNode, options: CallOptions): Promise<ReadConfig | undefined> {
  if (!/image\.config|container\.image/.test(node.manifest.config.mediaType)) return undefined;
  return readConfig(store, node.manifest.config, options);
}

function clearOf({ bytes, config: { config = {}, history = [], rootfs } }: ReadConfig): ClearContent {
  return {
    env: config.Env ?? [],
    entrypoint: config.Entrypoint ?? [],
    cmd: config.Cmd ?? [],
    labels: config.Labels ?? {},
    history: history.flatMap(({ created_by }) => created_by ?? []),
    buildRecords: buildHistoryOf(bytes),
    diffIds: rootfs.diff_ids,
  };
}

function opaqueOf(tree: ImageNode): readonly Descriptor[] {
  switch (tree.kind) {
    case "index":
      return tree.children.flatMap(opaqueOf);
    case "opaque":
      return isManifestMediaType(tree.descriptor.mediaType) ? [tree.descriptor] : [];
    case "image":
      return [];
  }
}

const secretName = /pass(word|wd)?|secret|token|api_?key|credential|private/i;

function warningsOf(platforms: readonly PlatformDescription[], attached: number): readonly string[] {
  const warnings = new Set<string>();
  const isEncrypted = platforms.some(({ layers }) => layers.some(({ encryption }) => encryption !== undefined));
  if (attached > 0 && isEncrypted)
    warnings.add(`${attached} attached attestation(s) are readable by anyone; an SBOM among them lists what the layers hold`);
  for (const { layers, clear } of platforms) {
    const encrypted = layers.filter(({ encryption }) => encryption !== undefined).length;
    if (encrypted > 0 && encrypted < layers.length) warnings.add(`${layers.length - encrypted} of ${layers.length} layers are plain`);
    if (clear === undefined || encrypted === 0) continue;
    if (clear.buildRecords.length > 0)
      warnings.add(`the build history is readable by anyone: ${clear.buildRecords.join(", ")} (encrypt with --strip-history)`);
    const telling = clear.env.map((entry) => entry.split("=")[0] ?? "").filter((name) => secretName.test(name));
    if (telling.length > 0) warnings.add(`environment variables that sound secret are readable by anyone: ${telling.join(", ")}`);
    warnings.add("names of files stay secret; sizes, layer count, environment, labels and diffIDs are readable by anyone");
  }
  return [...warnings];
}
