import {
  formatPlatform,
  hostPlatform,
  isIndexMediaType,
  platformDistance,
  selectPlatform,
  type Descriptor,
  type ImageConfig,
  type ImageManifest,
  type Platform,
} from "../oci/index.ts";
import { readConfig, readIndex, readManifest, type CallOptions, type ContentReader } from "../store/index.ts";
import { GuestError } from "./errors.ts";

/** A manifest and its configuration, both verified by their digests. */
export interface OpenedImage {
  readonly manifest: ImageManifest;
  readonly manifestBytes: Uint8Array;
  readonly config: ImageConfig;
}

/** The image manifest of a platform: the target itself, or the entry of an index. Throws `ERR_PLATFORM_NOT_FOUND`. */
export async function selectManifest(
  store: ContentReader,
  target: Descriptor,
  platform: Platform | undefined,
  options: CallOptions,
): Promise<Descriptor> {
  if (!isIndexMediaType(target.mediaType)) return target;
  const { index } = await readIndex(store, target, options);
  const chosen = selectPlatform(index, platform ?? hostPlatform());
  // An index in an index: the entry's platform still decides in the inner one.
  return isIndexMediaType(chosen.mediaType) ? await selectInner(store, chosen, platform, options) : chosen;
}

async function selectInner(
  store: ContentReader,
  target: Descriptor,
  platform: Platform | undefined,
  options: CallOptions,
): Promise<Descriptor> {
  const { index } = await readIndex(store, target, options);
  const chosen = selectPlatform(index, platform ?? hostPlatform());
  if (!isIndexMediaType(chosen.mediaType)) return chosen;
  throw new GuestError("ERR_GUEST_CONFIG_REFUSED", {
    message: `the index ${target.digest} nests deeper than two levels`,
    hint: "push the image as a single index",
  });
}

/** Manifest and configuration, which must pair; the platform is checked when one was asked for. */
export async function readImage(
  store: ContentReader,
  root: Descriptor,
  platform: Platform | undefined,
  options: CallOptions,
): Promise<OpenedImage> {
  const { manifest, bytes } = await readManifest(store, root, options);
  const { config } = await readConfig(store, manifest.config, options);
  const layers = manifest.layers.length;
  const diffIds = config.rootfs.diff_ids.length;
  if (layers !== diffIds) {
    throw new GuestError("ERR_GUEST_CONFIG_REFUSED", {
      message: `the manifest has ${layers} layers, the image configuration ${diffIds} diff_ids`,
      hint: "the image was changed by something that does not follow the OCI image-spec; push it again",
    });
  }
  const own: Platform = {
    os: config.os,
    architecture: config.architecture,
    ...(config.variant === undefined ? {} : { variant: config.variant }),
  };
  if (platform !== undefined && platformDistance(own, platform) === undefined) {
    throw new GuestError("ERR_GUEST_PLATFORM_MISMATCH", {
      message: `the image is for ${formatPlatform(own)}, not for ${formatPlatform(platform)}`,
      hint: "choose another image, or name the image's own platform with --platform",
    });
  }
  return { manifest, config, manifestBytes: bytes };
}
