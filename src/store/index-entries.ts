import { isDigest, type Digest } from "../bytes/index.ts";
import { isRefName, isTag, type Descriptor } from "../oci/index.ts";
import { StoreError } from "./errors.ts";

/** Names an entry of a layout's index. Source: OCI image-spec, annotations.md. */
export const refNameAnnotation = "org.opencontainers.image.ref.name";
/** Where containerd and BuildKit put the full name, and a short one into the standard annotation. */
const containerdNameAnnotation = "io.containerd.image.name";

type Entries = readonly Descriptor[];

/** The name of an entry, if it has one. */
export function refNameOf(entry: Descriptor): string | undefined {
  return entry.annotations?.[refNameAnnotation];
}

/** All names, sorted, each once. */
export function namesOf(entries: Entries): readonly string[] {
  return [...new Set(entries.flatMap((entry) => refNameOf(entry) ?? []))].sort();
}

/**
 * The entry that a reference means: its exact name; `@N`, the N-th entry from 0; a digest in the list; the end of one
 * full name (`:1.0` of `docker.io/library/app:1.0`). `undefined` when there is none. Throws `ERR_STORE_AMBIGUOUS` when
 * entries of different content fit: readers disagree which of them counts, so none does.
 */
export function findEntry(entries: Entries, reference: string, storeName: string): Descriptor | undefined {
  const exact = entries.filter((entry) => refNameOf(entry) === reference || entry.annotations?.[containerdNameAnnotation] === reference);
  if (exact.length > 0) return onlyOne(exact, reference, storeName);
  const position = /^@([0-9]{1,6})$/.exec(reference)?.[1];
  if (position !== undefined) return entries[Number(position)];
  if (isDigest(reference)) return entries.find((entry) => entry.digest === reference);
  const suffix = `:${reference}`;
  const byEnd = entries.filter(
    (entry) => refNameOf(entry)?.endsWith(suffix) ?? entry.annotations?.[containerdNameAnnotation]?.endsWith(suffix),
  );
  return byEnd.length > 0 ? onlyOne(byEnd, reference, storeName) : undefined;
}

/** The single content of a list of entries; `undefined` of none. Throws `ERR_STORE_AMBIGUOUS`. */
export function onlyOne(entries: Entries, reference: string | undefined, storeName: string): Descriptor | undefined {
  const [first] = entries;
  const contents = new Set(entries.map((entry) => entry.digest)).size;
  if (contents <= 1) return first;
  const names = namesOf(entries);
  const shown = names.length > 0 ? names.slice(0, 20) : entries.slice(0, 20).map((entry) => entry.digest);
  throw new StoreError("ERR_STORE_AMBIGUOUS", {
    message:
      reference === undefined
        ? `${storeName} has ${contents} images and none was named: ${shown.join(", ")}`
        : `${storeName} has ${contents} images that ${reference} could mean: ${shown.join(", ")}`,
    hint: `write ${storeName}:REF with one of the names, or a digest`,
    details: { names: shown },
  });
}

/** What an index says about a manifest. Its own annotations stay out: one of them could be a name. */
function plain(target: Descriptor): Descriptor {
  const { mediaType, digest, size, artifactType, platform } = target;
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(platform === undefined ? {} : { platform }),
  };
}

/** Whether an entry says no more than its new, named one will say. */
function isPlain(entry: Descriptor, target: Descriptor): boolean {
  const known: ReadonlySet<string> = new Set(Object.keys(plain(target)));
  return entry.mediaType === target.mediaType && entry.size === target.size && Object.keys(entry).every((member) => known.has(member));
}

/**
 * The list with `reference` at `target` and nowhere else. One name per entry: image-spec allows no more, so two tags of
 * one manifest are two entries. An unnamed entry of the same manifest gets the name. All others stay as they are.
 */
export function withTag(entries: Entries, target: Descriptor, reference: string): Entries {
  const kept = entries.filter((entry) => refNameOf(entry) !== reference);
  const named: Descriptor = { ...plain(target), annotations: { [refNameAnnotation]: reference } };
  const unnamed = kept.findIndex((entry) => entry.digest === target.digest && isPlain(entry, target));
  return unnamed < 0 ? [...kept, named] : kept.with(unnamed, named);
}

/** The list with an entry for `target`, without a name unless it has one. */
export function withEntry(entries: Entries, target: Descriptor): Entries {
  return entries.some((entry) => entry.digest === target.digest) ? entries : [...entries, plain(target)];
}

export function withoutDigest(entries: Entries, digest: Digest): Entries {
  return entries.filter((entry) => entry.digest !== digest);
}

export function withoutName(entries: Entries, name: string): Entries {
  return entries.filter((entry) => refNameOf(entry) !== name);
}

/** Throws `ERR_STORE_UNSUPPORTED` for a text that cannot name an image in a layout. */
export function checkName(reference: string, storeName: string): void {
  if (isRefName(reference) || isTag(reference)) return;
  throw new StoreError("ERR_STORE_UNSUPPORTED", {
    message: `${JSON.stringify(reference.slice(0, 200))} cannot name an image in ${storeName}`,
    hint: "use letters and digits with single . _ - : @ + or / between them",
  });
}
