import { pipeline } from "node:stream/promises";
import { hostPlatform, parsePlatform, selectPlatform, type Descriptor } from "../../src/oci/index.ts";
import { chosenPositions, parseLayerChoice, readLayer } from "../../src/pipeline/index.ts";
import { readDocument, type ContentStore } from "../../src/store/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import type { KbsOptions } from "../kbs-connection.ts";
import { openKeys } from "../open-keys.ts";

interface CatOptions extends RegistryFlags, KbsOptions {
  readonly key?: readonly string[];
  readonly decryptionKey?: readonly string[];
  readonly layer?: readonly string[];
  readonly range?: string;
  readonly platform?: readonly string[];
}

export const cat: Action<CatOptions> = async (shell, [name = ""], options) => {
  const range = rangeOf(options.range);
  await withImages(shell, options, async (images) => {
    const { image, root } = await images.resolve(name);
    const layers = await layersOf(image.store, root, options.platform?.[0]);
    const [position, ...more] = chosenPositions(parseLayerChoice(options.layer ?? ["0"]), layers, image.store.name);
    const layer = position === undefined ? undefined : layers[position];
    if (layer === undefined || more.length > 0) throw usage("choose exactly one layer with --layer");
    const keys = await openKeys(shell, [...(options.key ?? []), ...(options.decryptionKey ?? [])], options);
    try {
      const stream = await readLayer({ store: image.store, layer, unwrappers: keys.unwrappers, range }, { signal: shell.signal });
      await pipeline(stream, shell.stdout, { end: false });
    } finally {
      await keys.close();
    }
  });
};

async function layersOf(store: ContentStore, root: Descriptor, platform: string | undefined): Promise<readonly Descriptor[]> {
  const document = await readDocument(store, root);
  if (document.kind === "manifest") return document.manifest.layers;
  const wanted = platform === undefined ? hostPlatform() : parsePlatform(platform);
  return layersOf(store, selectPlatform(document.index, wanted), platform);
}

/** `A-B`, both included, as in HTTP; to `[A, B + 1)`. */
function rangeOf(text: string | undefined): { readonly start: number; readonly end: number } | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(text);
  const [start, last] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || last < start) throw usage(`--range takes A-B with A at most B, not ${text.slice(0, 60)}`);
  return { start, end: last + 1 };
}
