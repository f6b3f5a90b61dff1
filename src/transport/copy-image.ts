import type { Descriptor, ImageName, Platform } from "../oci/index.ts";
import type { CredentialSource, RegistriesConf } from "../registry/index.ts";
import { copyGraph, selectPlatforms, type CallOptions, type CopyRequest, type CopySummary } from "../store/index.ts";
import { checkDigest, openImage, sourceOnly, type ImageContext, type OpenedImage } from "./open-image.ts";
import { onSides } from "./sides.ts";

export interface CopyImageRequest extends CallOptions, Pick<CopyRequest, "referrers" | "concurrency" | "onProgress"> {
  readonly source: ImageName;
  readonly destination: ImageName;
  /** Only these; all when absent or empty. See `selectPlatforms` for what the root then is. */
  readonly platforms?: readonly Platform[] | undefined;
  /** As for {@link openImage}. */
  readonly transport: ImageContext["transport"];
  readonly sourceCredentials?: CredentialSource | undefined;
  readonly destinationCredentials?: CredentialSource | undefined;
  readonly registriesConf?: RegistriesConf | undefined;
}

export interface CopiedImage extends CopySummary {
  readonly root: Descriptor;
}

/**
 * Copies an image, every platform of it, from any transport to any; bytes and digests stay what they are. The name at
 * the destination moves last. Throws what {@link openImage} and `copyGraph` throw.
 */
export async function copyImage(request: CopyImageRequest): Promise<CopiedImage> {
  return onSides(request, () => copyBetween(request));
}

async function copyBetween(request: CopyImageRequest): Promise<CopiedImage> {
  const { transport, registriesConf, signal } = request;
  const shared = { transport, registriesConf, ...withSignal(signal) };
  const from = await openImage(request.source, { ...shared, access: "read", credentials: request.sourceCredentials });
  try {
    const whole = await from.store.resolve(from.reference, withSignal(signal));
    const { from: reader, root } = await selectPlatforms(from.store, whole, request.platforms ?? [], withSignal(signal));
    const to = await openImage(request.destination, { ...shared, access: "write", credentials: request.destinationCredentials });
    try {
      checkDigest(to, root);
      const summary = await copyGraph({
        from: reader,
        to: copyTarget(from, to),
        root,
        tags: namesAt(to, root),
        // A registry refuses a manifest whose parts it does not have; a folder takes what it is given.
        present: to.kind === "registry" ? "trust" : "walk",
        referrers: request.referrers ?? "ignore",
        ...(request.concurrency === undefined ? {} : { concurrency: request.concurrency }),
        ...(request.onProgress === undefined ? {} : { onProgress: request.onProgress }),
        ...withSignal(signal),
      });
      return { root, ...summary };
    } finally {
      await to.store.close();
    }
  } finally {
    await from.store.close();
  }
}

/**
 * What {@link copyImage} would make of the destination's name, without writing anything or asking the destination.
 * Throws what it would throw before its first write.
 */
export async function planCopy(request: PlanCopyRequest): Promise<Descriptor> {
  return onSides(request, () => planBetween(request));
}

type PlanCopyRequest = Omit<CopyImageRequest, "referrers" | "concurrency" | "onProgress">;

async function planBetween(request: PlanCopyRequest): Promise<Descriptor> {
  const { source, destination, transport, registriesConf, sourceCredentials, platforms = [], signal } = request;
  if (destination.transport === "docker-archive") throw sourceOnly(destination);
  const from = await openImage(source, {
    transport,
    registriesConf,
    access: "read",
    credentials: sourceCredentials,
    ...withSignal(signal),
  });
  try {
    const whole = await from.store.resolve(from.reference, withSignal(signal));
    const { root } = await selectPlatforms(from.store, whole, platforms, withSignal(signal));
    checkDigest({ name: destination, digest: destination.transport === "docker" ? destination.digest : undefined }, root);
    return root;
  } finally {
    await from.store.close();
  }
}

/** The destination; blobs of another repository of the same registry are mounted there instead of moved. */
function copyTarget(from: OpenedImage, to: OpenedImage): CopyRequest["to"] {
  if (from.kind !== "registry" || to.kind !== "registry" || from.store.host !== to.store.host) return to.store;
  const { store } = to;
  const { repository } = from.store;
  return {
    name: store.name,
    exists: (target, options) => store.exists(target, options),
    push: (target, source, options) => store.pushFrom(target, source, repository, options),
    tag: (target, reference, options) => store.tag(target, reference, options),
  };
}

/** A registry knows an untagged manifest by its digest; a layout or archive must list it. */
function namesAt(to: OpenedImage, root: Descriptor): readonly string[] {
  if (to.reference !== undefined) return [to.reference];
  return to.kind === "registry" ? [] : [root.digest];
}

function withSignal(signal: AbortSignal | undefined): CallOptions {
  return signal === undefined ? {} : { signal };
}
