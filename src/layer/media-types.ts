import type { Compression } from "../cipher/index.ts";
import { LayerError, askOwner } from "./errors.ts";

const suffix = "+encrypted";
const oci = "application/vnd.oci.image.layer.";

/** Layer types that can be encrypted, and the OCI type that each becomes: Docker's are read by no encrypting peer but skopeo. */
const sealable: ReadonlyMap<string, string> = new Map([
  ...[`${oci}v1.tar`, `${oci}v1.tar+gzip`, `${oci}v1.tar+zstd`].map((type) => [type, type] as const),
  ...[`${oci}nondistributable.v1.tar`, `${oci}nondistributable.v1.tar+gzip`, `${oci}nondistributable.v1.tar+zstd`].map(
    (type) => [type, type] as const,
  ),
  ["application/vnd.docker.image.rootfs.diff.tar", `${oci}v1.tar`],
  ["application/vnd.docker.image.rootfs.diff.tar.gzip", `${oci}v1.tar+gzip`],
  ["application/vnd.docker.image.rootfs.diff.tar.zstd", `${oci}v1.tar+zstd`],
  ["application/vnd.docker.image.rootfs.foreign.diff.tar", `${oci}nondistributable.v1.tar`],
  ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", `${oci}nondistributable.v1.tar+gzip`],
]);

/** Whether a media type marks an encrypted layer. Source: ocicrypt: the suffix alone decides. */
export function isEncryptedMediaType(mediaType: string): boolean {
  return mediaType.endsWith(suffix);
}

/** Whether layers of this type can be encrypted; attestations, wasm modules and other artifacts cannot. */
export function isSealableMediaType(mediaType: string): boolean {
  return sealable.has(mediaType);
}

/** The OCI layer type that encryption is about: Docker types become OCI types. Throws `ERR_LAYER_MEDIA_TYPE`. */
export function sealedAs(mediaType: string): string {
  const found = sealable.get(mediaType);
  if (found !== undefined) return found;
  throw new LayerError("ERR_LAYER_MEDIA_TYPE", {
    message: `a layer of type ${mediaType} cannot be encrypted (expected an OCI or Docker image layer)`,
    hint: "choose the layers to encrypt with --layer, or leave this artifact plain",
    details: { mediaType },
  });
}

export function encryptedMediaType(plain: string): string {
  return `${sealedAs(plain)}${suffix}`;
}

/** The media type without the mark. Throws `ERR_LAYER_MEDIA_TYPE` when what remains is no layer type. */
export function plainMediaType(encrypted: string): string {
  const plain = encrypted.slice(0, -suffix.length);
  if (isEncryptedMediaType(encrypted) && sealable.has(plain)) return plain;
  throw new LayerError("ERR_LAYER_MEDIA_TYPE", {
    message: `${encrypted} is not the type of an encrypted image layer`,
    hint: askOwner,
    details: { mediaType: encrypted },
  });
}

/** How the tar of a layer type is stored. Source: OCI image-spec, layer.md; Docker's types are gzip by name. */
export function compressionOf(mediaType: string): Compression {
  if (/[+.]gzip$/.test(mediaType)) return "gzip";
  return /[+.]zstd$/.test(mediaType) ? "zstd" : "none";
}
