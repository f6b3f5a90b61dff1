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

/**
 * The positions that a choice means in one manifest. A position out of range is an error, and so is a digest that the
 * manifest lacks: a layer that somebody wanted secret must not stay plain because of a typing error.
 */
export function chosenPositions(choice: LayerChoice, layers: readonly Descriptor[], where: string): ReadonlySet<number> {
  switch (choice.kind) {
    case "all":
      return new Set(layers.keys());
    case "except":
      return new Set([...layers.keys()].filter((i) => !choice.digests.has(layers[i]?.digest ?? "")));
    case "listed": {
      const positions = new Set<number>();
      for (const item of choice.layers) for (const i of positionsOf(item, layers, where)) positions.add(i);
      return positions;
    }
  }
}

function positionsOf(item: number | string, layers: readonly Descriptor[], where: string): readonly number[] {
  if (typeof item === "string") {
    const found = [...layers.keys()].filter((i) => layers[i]?.digest === item);
    if (found.length > 0) return found;
    throw new PipelineError("ERR_LAYER_CHOICE", {
      message: `${where} has no layer ${item}`,
      hint: "ociseal inspect lists the layers and their digests",
    });
  }
  const position = item < 0 ? layers.length + item : item;
  if (position >= 0 && position < layers.length) return [position];
  throw new PipelineError("ERR_LAYER_CHOICE", {
    message: `layer ${item} is out of range: ${where} has ${layers.length} layers`,
    hint: `positions go from ${-layers.length} to ${layers.length - 1}`,
  });
}
