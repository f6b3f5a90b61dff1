import { formatImageName, parseImageName, type Descriptor, type ImageName } from "../src/oci/index.ts";
import { onSides, openImage, type OpenedImage, type RegistryAccess } from "../src/transport/index.ts";
import { usage } from "./errors.ts";
import type { ContentStore } from "../src/store/index.ts";
import type { Shell } from "./shell.ts";

/** Flags of commands that talk to registries; all optional. */
export interface RegistryFlags {
  readonly credsFile?: string;
  readonly tlsCa?: string;
  readonly tlsClientCert?: string;
  readonly tlsClientKey?: string;
  readonly plainHttp?: readonly string[];
  readonly allowRealm?: readonly string[];
  readonly concurrency?: number;
  readonly limitRate?: number;
}

/** Opens the images of one command over one transport. */
export interface Images {
  /** Connections, credentials and registries.conf; made, and their modules loaded, when a registry is named first. */
  readonly registries: () => Promise<RegistryAccess>;
  /** Parses and opens. */
  open(text: string, access: "read" | "write"): Promise<OpenedImage>;
  /** Opens for reading and resolves the name. */
  resolve(text: string): Promise<{ readonly image: OpenedImage; readonly root: Descriptor }>;
  /** Closes everything that was opened, stores first: an archive appears only now. */
  close(): Promise<void>;
}

export function openImages(shell: Shell, flags: RegistryFlags): Images {
  if ((flags.tlsClientCert === undefined) !== (flags.tlsClientKey === undefined))
    throw usage("--tls-client-cert and --tls-client-key go together");
  requireNumber("--concurrency", flags.concurrency, 1);
  requireNumber("--limit-rate", flags.limitRate, 1);
  let access: Promise<RegistryAccess> | undefined;
  const registries = (): Promise<RegistryAccess> => {
    access ??= import("./registry-access.ts").then(({ openRegistryAccess }) => openRegistryAccess(shell, flags));
    return access;
  };
  const opened: OpenedImage[] = [];
  const images: Images = {
    registries,
    async open(text, mode) {
      const image = await openImage(parseImageName(text), { access: mode, transport: registries, signal: shell.signal });
      opened.push(image);
      return image;
    },
    async resolve(text) {
      const image = await images.open(text, "read");
      return { image, root: await image.store.resolve(image.reference, { signal: shell.signal }) };
    },
    async close() {
      try {
        for (const image of opened.splice(0)) await image.store.close();
      } finally {
        await (await access)?.transport.close();
      }
    },
  };
  return images;
}

/** Runs work on images and closes them; a failure to close is a failure of the work. */
export async function withImages<Result>(shell: Shell, flags: RegistryFlags, work: (images: Images) => Promise<Result>): Promise<Result> {
  const images = openImages(shell, flags);
  let result: Result;
  try {
    result = await work(images);
  } catch (error) {
    await images.close().catch(() => undefined);
    throw error;
  }
  await images.close();
  return result;
}

/** As {@link withImages}, for work from one image to another: a failure says which side it was. */
export async function betweenImages<Result>(
  shell: Shell,
  flags: RegistryFlags,
  names: { readonly source: string; readonly destination: string },
  work: (images: Images) => Promise<Result>,
): Promise<Result> {
  const sides = { source: parseImageName(names.source), destination: parseImageName(names.destination) };
  return onSides(sides, () => withImages(shell, flags, work));
}

/**
 * The destination for blobs of a source: in another repository of the same registry they are mounted instead of moved.
 * Everything else is the destination itself.
 */
export function destinationFor(from: OpenedImage, to: OpenedImage): ContentStore {
  if (from.kind !== "registry" || to.kind !== "registry" || from.store.host !== to.store.host) return to.store;
  const { store } = to;
  const { repository } = from.store;
  if (repository === store.repository) return store;
  return {
    name: store.name,
    resolve: (reference, options) => store.resolve(reference, options),
    fetch: (target, options) => store.fetch(target, options),
    exists: (target, options) => store.exists(target, options),
    referrers: (subject, filter) => store.referrers(subject, filter),
    tags: (options) => store.tags(options),
    localPath: () => undefined,
    push: (target, source, options) => store.pushFrom(target, source, repository, options),
    ingest: (source, request) => store.ingest(source, request),
    tag: (target, reference, options) => store.tag(target, reference, options),
    remove: (target, options) => store.remove(target, options),
    close: () => store.close(),
  };
}

/** Refuses a destination named by digest where the result is made anew each time, so that nobody can know its digest. */
export function refuseDigest({ name, digest }: OpenedImage): void {
  if (digest === undefined) return;
  throw usage(
    `${formatImageName(name)} demands a digest, and what is written there has a new one each time`,
    "leave the digest away in the destination",
  );
}

/** Refuses numbers that a flag's parser could not read. */
export function requireNumber(flag: string, value: number | undefined, min: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= min)) return;
  throw usage(`${flag} takes a whole number of at least ${min}`);
}

/** `HOST/REPOSITORY` as signatures name it; for other transports the name as given. */
export function repositoryOf(name: ImageName): string {
  return name.transport === "docker" ? `${name.host}/${name.repository}` : formatImageName(name);
}
