import { ctrShape, openSegments, openUntagged, sealCtr, segmentShape, tagSegments } from "./ctr-segments.ts";
import { counterAt, loadEngine } from "./engine.ts";
import { openChunks, openChunksShape, sealChunks, sealChunksShape, type ChunkSpan } from "./gcm-chunks.ts";
import { deriveSegmentKey } from "./kdf.ts";
import { newHasher, type Digest, type DigestAlgorithm } from "../bytes/index.ts";
import type { Engine } from "./names.ts";
import { segmentLength } from "./sizes.ts";
import type { BlockTransform, TransformShape } from "./transform.ts";

/** A transform as plain data, so that it can be built here or in a worker thread. Holds key material. */
export type TransformPlan = { readonly engine: Engine } & (
  | { readonly kind: "seal-chunks"; readonly key: Uint8Array; readonly baseNonce: Uint8Array }
  | { readonly kind: "open-chunks"; readonly key: Uint8Array; readonly baseNonce: Uint8Array; readonly span: ChunkSpan }
  | { readonly kind: "seal-ctr"; readonly layerKey: Uint8Array; readonly nonce: Uint8Array; readonly blobSize: number | undefined }
  | {
      readonly kind: "open-segments";
      readonly layerKey: Uint8Array;
      readonly nonce: Uint8Array;
      readonly tags: Uint8Array;
      readonly blobSize: number;
      readonly first: number;
      readonly mac: Uint8Array | undefined;
    }
  /** Only into staging: the output is not verified before the end. */
  | { readonly kind: "open-untagged"; readonly layerKey: Uint8Array; readonly nonce: Uint8Array; readonly mac: Uint8Array }
  /** No cipher: hashes its input and puts nothing out. */
  | { readonly kind: "digest"; readonly algorithm: DigestAlgorithm }
);

/** What is known at the end, beyond the output: digests, the MAC and the segment tags of a sealed CTR layer. */
export interface TransformResults {
  /** Digest of what a layer uncompresses to. */
  readonly uncompressed?: Digest | undefined;
  /** Digest of the prefix and all output, where the runner was asked to hash it; of the input where the plan is to hash it. */
  readonly outputDigest?: Digest | undefined;
  readonly mac?: Uint8Array | undefined;
  readonly tags?: Uint8Array | undefined;
}

export interface PlannedTransform extends BlockTransform {
  readonly results?: () => TransformResults;
}

const digestShape: TransformShape = { unit: 1, outputSize: () => 0 };

/** How the input of a plan's transform is cut. */
export function shapeOf(plan: TransformPlan): TransformShape {
  switch (plan.kind) {
    case "seal-chunks":
      return sealChunksShape;
    case "open-chunks":
      return openChunksShape;
    case "seal-ctr":
    case "open-untagged":
      return ctrShape;
    case "open-segments":
      return segmentShape(plan.blobSize);
    case "digest":
      return digestShape;
  }
}

/** Builds the transform of a plan. */
export async function buildTransform(plan: TransformPlan): Promise<PlannedTransform> {
  const engine = await loadEngine(plan.engine);
  switch (plan.kind) {
    case "seal-chunks":
      return sealChunks(engine.gcmKey(plan.key), plan.baseNonce);
    case "open-chunks":
      return openChunks(engine.gcmKey(plan.key), plan.baseNonce, plan.span);
    case "seal-ctr": {
      const { layerKey, nonce, blobSize } = plan;
      const tagger = blobSize === undefined ? undefined : tagSegments(deriveSegmentKey(layerKey, nonce), blobSize);
      return sealCtr(layerKey, engine.ctrStream(layerKey, nonce), tagger);
    }
    case "open-segments": {
      const { layerKey, nonce, tags, blobSize, first, mac } = plan;
      const stream = engine.ctrStream(layerKey, counterAt(nonce, first * segmentLength(blobSize)));
      return openSegments({ layerKey, segmentKey: deriveSegmentKey(layerKey, nonce) }, stream, tags, { blobSize, first, mac });
    }
    case "open-untagged":
      return openUntagged(plan.layerKey, engine.ctrStream(plan.layerKey, plan.nonce), plan.mac);
    case "digest":
      return digestOnly(plan.algorithm);
  }
}

function digestOnly(algorithm: DigestAlgorithm): PlannedTransform {
  const hasher = newHasher(algorithm);
  const absorb = (input: Uint8Array): number => {
    hasher.update(input);
    return 0;
  };
  return { ...digestShape, transform: absorb, finish: absorb, results: () => ({ outputDigest: hasher.digest() }) };
}
