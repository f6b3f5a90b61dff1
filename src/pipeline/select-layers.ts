import { isDigest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { PipelineError } from "./errors.ts";

/** Which layers of each manifest to work on. */
export type LayerChoice =
  | { readonly kind: "all" }
  /** Zero-based positions, negative from the end, or layer digests. */
  | { readonly kind: "listed"; readonly layers: readonly (number | string)[] }
  /** All but those whose digests are given, for example the layers of a base image. */
  | { readonly kind: "except"; readonly digests: ReadonlySet<string> };

/** Parses `--layer` values: positions or digests. Throws `ERR_LAYER_CHOICE`. */
export function parseLayerChoice(values: readonly string[]): LayerChoice {
  if (values.length === 0) return { kind: "all" };
  const layers = values
    .flatMap((value) => value.split(","))
    .map((text): number | string => {
      if (/^-?\d{1,6}$/.test(text)) return Number(text);
      if (isDigest(text)) return text;
      throw new PipelineError("ERR_LAYER_CHOICE", {
        message: `not a layer: ${JSON.stringify(text.slice(0, 100))}`,
        hint: "give a position (0 is the first layer, -1 the last) or a layer digest",
      });
    });
  return { kind: "listed", layers };
}

/** One manifest to choose in. */
interface ChoiceOfLayers {
  readonly layers: readonly Descriptor[];
  /** How messages call it. */
  readonly where: string;
}

/** {@link chosenInEach} of one manifest. */
export function chosenPositions(choice: LayerChoice, layers: readonly Descriptor[], where: string): ReadonlySet<number> {
  return chosenInEach(choice, [{ layers, where }])[0] ?? new Set();
}

/**
 * The positions that a choice means in each manifest of an image. A position out of range is an error, and so is a digest
 * that no manifest has, or a manifest of which nothing was listed: a layer that somebody wanted secret must not stay plain
 * because of a typing error, or because the other platform's was forgotten. Throws `ERR_LAYER_CHOICE`.
 */
export function chosenInEach(choice: LayerChoice, images: readonly ChoiceOfLayers[]): readonly ReadonlySet<number>[] {
  switch (choice.kind) {
    case "all":
      return images.map(({ layers }) => new Set(layers.keys()));
    case "except":
      return images.map(({ layers }) => new Set([...layers.keys()].filter((i) => !choice.digests.has(layers[i]?.digest ?? ""))));
    case "listed":
      return listedInEach(choice.layers, images);
  }
}

function listedInEach(listed: readonly (number | string)[], images: readonly ChoiceOfLayers[]): readonly ReadonlySet<number>[] {
  const digests = new Set(images.flatMap(({ layers }) => layers.map(({ digest }) => digest as string)));
  const unknown = listed.find((item) => typeof item === "string" && !digests.has(item));
  if (unknown !== undefined) {
    throw new PipelineError("ERR_LAYER_CHOICE", {
      message: `${images.map(({ where }) => where).join(", ")} has no layer ${unknown}`,
      hint: "ociseal inspect lists the layers and their digests",
    });
  }
  return images.map((image) => {
    const positions = new Set(listed.flatMap((item) => positionsOf(item, image)));
    if (positions.size > 0 || image.layers.length === 0) return positions;
    throw new PipelineError("ERR_LAYER_CHOICE", {
      message: `none of the layers that were listed is in ${image.where}, which would stay plain`,
      hint: "list a digest of every platform, or choose platforms with --platform",
    });
  });
}

function positionsOf(item: number | string, { layers, where }: ChoiceOfLayers): readonly number[] {
  if (typeof item === "string") return [...layers.keys()].filter((i) => layers[i]?.digest === item);
  const position = item < 0 ? layers.length + item : item;
  if (position >= 0 && position < layers.length) return [position];
  throw new PipelineError("ERR_LAYER_CHOICE", {
    message: `layer ${item} is out of range: ${where} has ${layers.length} layers`,
    hint: `positions go from ${-layers.length} to ${layers.length - 1}`,
  });
}
