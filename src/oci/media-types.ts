/** Media types of documents. Source: OCI image-spec, media-types.md; Docker "Image Manifest V 2, Schema 2". */
export const mediaTypes = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  empty: "application/vnd.oci.empty.v1+json",
  dockerIndex: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  layerTar: "application/vnd.oci.image.layer.v1.tar",
  layerTarGzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  layerTarZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  dockerLayerTar: "application/vnd.docker.image.rootfs.diff.tar",
  dockerLayerTarGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
} as const;

/** Docker's first manifest formats, which name no configuration and cannot be verified by digest alone. */
export const schema1MediaTypes: ReadonlySet<string> = new Set([
  "application/vnd.docker.distribution.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v1+prettyjws",
]);

const indexes: ReadonlySet<string> = new Set([mediaTypes.index, mediaTypes.dockerIndex]);
const manifests: ReadonlySet<string> = new Set([mediaTypes.manifest, mediaTypes.dockerManifest]);

export function isIndexMediaType(mediaType: string): boolean {
  return indexes.has(mediaType);
}

export function isImageManifestMediaType(mediaType: string): boolean {
  return manifests.has(mediaType);
}

/** Whether content of this type lives under `/manifests/` in a registry. */
export function isManifestMediaType(mediaType: string): boolean {
  return indexes.has(mediaType) || manifests.has(mediaType);
}

/**
 * Layers that may have to be fetched from elsewhere (`urls`) and are then in no registry: Windows base layers.
 * Source: OCI image-spec, layer.md, "Non-Distributable Layers".
 */
export function isForeignLayerMediaType(mediaType: string): boolean {
  return (
    mediaType.startsWith("application/vnd.docker.image.rootfs.foreign.diff.tar") ||
    mediaType.startsWith("application/vnd.oci.image.layer.nondistributable.v1.tar")
  );
}
