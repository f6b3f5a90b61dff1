import { ToolError } from "../errors/index.ts";
import { describeEncryption, isEncryptedLayer } from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentStore, TakesBack } from "../store/index.ts";
import { isForeignLayer } from "./carry-layer.ts";
import { PipelineError } from "./errors.ts";
import { imagesOf, readImageTree } from "./image-tree.ts";
import type { LayerReport } from "./layer-report.ts";

const contentHint = "the destination lost or changed content; its tag was not moved, look at the registry before trying again";
const nameHint = "somebody else moved the name meanwhile, or the destination does not let it move; look at it before trying again";

/** Where a new image goes. */
export interface Destination {
  readonly store: ContentStore;
  /** The name that moves to it last; without one it is reachable by digest. */
  readonly reference: string | undefined;
  /** Runs when everything is there and no name points at it yet: signing. */
  readonly beforeTag?: ((root: Descriptor, layers: readonly LayerReport[]) => Promise<void>) | undefined;
}

/**
 * Reads back what was written, signs, and moves the name. A destination that lost or changed something is found before
 * anybody can pull it by name: manifests come back by the digests that were computed here, and what they say of each
 * layer must be what was meant. Afterwards the name must be where it was moved. Throws `ERR_POSTCONDITION`.
 */
export async function finishImage(to: Destination, root: Descriptor, reports: readonly LayerReport[], options: CallOptions): Promise<void> {
  await checkDestination(to.store, root, reports, options);
  await to.beforeTag?.(root, reports);
  await to.store.tag(root, to.reference ?? root.digest, options);
  if (to.reference === undefined) return;
  const { reference } = to;
  const named = await readBack(() => to.store.resolve(reference, { ...options, read: "afresh" }), nameHint);
  if (named.digest !== root.digest)
    throw broken(`${reference} of ${to.store.name} points at ${named.digest} (expected ${root.digest})`, nameHint);
}

async function checkDestination(
  store: ContentStore,
  root: Descriptor,
  reports: readonly LayerReport[],
  options: CallOptions,
): Promise<void> {
  const images = imagesOf(await readBack(() => readImageTree({ store, root }, { ...options, read: "afresh" }), contentHint));
  for (const { manifest } of images)
    if (!(await store.exists(manifest.config, options)))
      throw broken(`the configuration ${manifest.config.digest} is not in ${store.name}`);
  const there = new Map(images.flatMap(({ manifest }) => manifest.layers.map((layer) => [layer.digest, layer] as const)));
  for (const { outcome, position, image, result } of reports) {
    const layer = there.get(result.digest);
    const where = `layer ${position} of ${image} in ${store.name}`;
    if (layer === undefined) throw broken(`${where} is not in any manifest there`);
    if ((outcome === "encrypted" || outcome === "rewrapped") && !isEncryptedLayer(layer))
      throw broken(`${where} is not marked as encrypted`);
    const [problem] = describeEncryption(layer)?.problems ?? [];
    if (outcome !== "kept" && problem !== undefined) throw broken(`nobody could open ${where}: ${problem.message}`);
    if (outcome === "decrypted" && isEncryptedLayer(layer)) throw broken(`${where} is still marked as encrypted`);
    const elsewhere = outcome === "kept" && isForeignLayer(layer);
    if (!elsewhere && !(await store.exists(layer, options))) throw broken(`the blob of ${where} is not there`);
  }
}

/** From the destination itself: a client remembers the manifests that it wrote a moment ago, and would agree with itself. */
async function readBack<Result>(read: () => Promise<Result>, hint: string): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof ToolError) || (error.category !== "not-found" && error.category !== "integrity")) throw error;
    throw broken(`it does not come back: ${error.message}`, hint, error);
  }
}

/**
 * Does the work; when it fails, a destination that can takes back what was written: plaintext must not stay behind, nor
 * an image without a name that nobody can use.
 */
export async function takingBackOnFailure<Result>(store: ContentStore & Partial<TakesBack>, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    // The failure of the work is the one to tell.
    await store.takeBack?.().catch(() => undefined);
    throw error;
  }
}

function broken(message: string, hint = contentHint, cause?: unknown): PipelineError {
  return new PipelineError("ERR_POSTCONDITION", {
    message: `after writing, ${message}`,
    hint,
    ...(cause === undefined ? {} : { cause }),
  });
}
