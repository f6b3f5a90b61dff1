import type { Digest } from "../bytes/index.ts";
import { formatImageName, type Descriptor, type DockerName, type ImageName } from "../oci/index.ts";
import type { CredentialSource, RegistriesConf, RegistryStore, RegistryTransport } from "../registry/index.ts";
import {
  openDir,
  openDockerArchive,
  openLayout,
  openOciArchive,
  type CallOptions,
  type ContentStore,
  type LayoutStore,
} from "../store/index.ts";
import { TransportError } from "./errors.ts";

/** What reaching a registry takes besides its name. */
export interface RegistryAccess {
  /** Connections, limits and tokens that all images of a command share; closed by who made it. */
  readonly transport: RegistryTransport;
  readonly credentials?: CredentialSource | undefined;
  /** registries.conf: mirrors for reading, other locations, blocked namespaces. */
  readonly registriesConf?: RegistriesConf | undefined;
}

/** How to open an image that a user named. */
export interface ImageContext extends CallOptions {
  /** `read`: it must be there. `write`: it is made when it is not there; reading from it works too. */
  readonly access: "read" | "write";
  /**
   * Connections, limits and tokens that all images of a command share; closed by who made it. As a function it is called
   * when a registry is named, and what it gives stands behind the members below.
   */
  readonly transport: RegistryTransport | (() => Promise<RegistryAccess>);
  readonly credentials?: CredentialSource | undefined;
  /** registries.conf: mirrors for reading, other locations, blocked namespaces. */
  readonly registriesConf?: RegistriesConf | undefined;
  /** What a compressed archive may unpack to, in bytes; 256 GiB unless told. */
  readonly maxUnpackedSize?: number | undefined;
}

interface Opened {
  /** As the user meant it, fully spelled. */
  readonly name: ImageName;
  /** What `store.resolve` takes: with tag and digest the digest. As a destination the name to move; `undefined` means none. */
  readonly reference: string | undefined;
  /** The digest that the name demands; a destination must end up with it, see {@link checkDigest}. */
  readonly digest: Digest | undefined;
}

/** An image's store, told apart by what it can do besides. Whoever opened it closes `store`. */
export type OpenedImage =
  | (Opened & { readonly kind: "registry"; readonly store: RegistryStore })
  | (Opened & { readonly kind: "layout"; readonly store: LayoutStore })
  | (Opened & { readonly kind: "archive"; readonly store: ContentStore });

/**
 * Opens the store that an image name means. Nothing is sent to a registry before the first use, except that reading
 * `NAME:TAG@DIGEST` asks at once whether the tag still points at the digest: `ERR_IMAGE_TAG_MISMATCH` when it does not.
 *
 * An archive that is written appears under its name at `close()`, if a name or digest was tagged in it before.
 */
export async function openImage(name: ImageName, context: ImageContext): Promise<OpenedImage> {
  switch (name.transport) {
    case "docker":
      return openDocker(name, context);
    case "oci": {
      const store = await openLayout({ path: name.path, mode: context.access });
      return { kind: "layout", name, store, reference: name.reference, digest: undefined };
    }
    case "oci-archive": {
      const store = await openOciArchive({ path: name.path, mode: context.access, maxUnpackedSize: context.maxUnpackedSize });
      return { kind: "archive", name, store, reference: name.reference, digest: undefined };
    }
    case "docker-archive": {
      if (context.access === "write") throw sourceOnly(name);
      const store = await openDockerArchive({ path: name.path, maxUnpackedSize: context.maxUnpackedSize });
      return { kind: "archive", name, store, reference: name.reference, digest: undefined };
    }
    case "dir": {
      const store = await openDir({ path: name.path, mode: context.access });
      return { kind: "archive", name, store, reference: undefined, digest: undefined };
    }
  }
}

/** Why an archive of docker's is not written. */
export function sourceOnly(name: ImageName): TransportError {
  return new TransportError("ERR_IMAGE_SOURCE_ONLY", {
    message: `${formatImageName(name)} cannot be a destination: ${name.transport} is a format to read from`,
    hint: "write oci-archive:FILE, which docker load and podman load read too",
  });
}

async function openDocker(name: DockerName, context: ImageContext): Promise<OpenedImage> {
  const { host, repository, tag, digest } = name;
  const access: RegistryAccess = typeof context.transport === "function" ? await context.transport() : { transport: context.transport };
  // Loaded with its HTTP client and TLS only when a registry is named: together they take longer to start than all else.
  const { openRegistry } = await import("../registry/index.ts");
  const store = openRegistry({
    host,
    repository,
    transport: access.transport,
    credentials: context.credentials ?? access.credentials,
    registriesConf: context.registriesConf ?? access.registriesConf,
  });
  if (context.access === "write") return { kind: "registry", name, store, reference: tag, digest };
  if (tag !== undefined && digest !== undefined) await checkTag(store, tag, digest, context);
  return { kind: "registry", name, store, reference: digest ?? tag, digest };
}

async function checkTag(store: ContentStore, tag: string, digest: Digest, { signal }: CallOptions): Promise<void> {
  const found = await store.resolve(tag, signal === undefined ? {} : { signal });
  if (found.digest === digest) return;
  throw new TransportError("ERR_IMAGE_TAG_MISMATCH", {
    message: `tag ${tag} of ${store.name} points at ${found.digest}, not at ${digest}`,
    hint: `the tag was moved; leave it away (${store.name}@${digest}) if the digest is what you mean, or look at what the tag is now`,
    details: { tag, expected: digest, got: found.digest },
  });
}

/** Throws `ERR_IMAGE_DIGEST_UNEXPECTED` when a destination was named by digest and the image has another one. */
export function checkDigest(image: Pick<OpenedImage, "name" | "digest">, root: Descriptor): void {
  if (image.digest === undefined || image.digest === root.digest) return;
  throw new TransportError("ERR_IMAGE_DIGEST_UNEXPECTED", {
    message: `${formatImageName(image.name)} demands ${image.digest}, the image to be written is ${root.digest}`,
    hint: "leave the digest away in the destination: encrypting, decrypting and selecting platforms change it",
    details: { expected: image.digest, got: root.digest },
  });
}
