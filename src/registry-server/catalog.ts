import type { Digest } from "../bytes/index.ts";
import { mediaTypes, type Annotations, type Descriptor } from "../oci/index.ts";
import { isTag } from "./route.ts";

/** Source: OCI image-spec, annotations.md. */
const refNameAnnotation = "org.opencontainers.image.ref.name";

/** What the registry knows about one manifest without reading it again. */
export interface ManifestEntry {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly subject?: Digest | undefined;
  /** As the referrers list shows it: of a manifest without one, its config's media type. */
  readonly artifactType?: string | undefined;
  readonly annotations?: Annotations | undefined;
  /** Manifests that an index lists. */
  readonly children: readonly Digest[];
}

/**
 * Tags, manifests and referrers of one repository, in memory; what `index.json` of its layout says.
 *
 * `index.json` lists every tag, and every manifest that has no tag and stands in no other index of the repository, so
 * that a reader of the layout sees images and not their parts.
 */
export class Catalog {
  readonly #manifests = new Map<Digest, ManifestEntry>();
  readonly #tags = new Map<string, Descriptor>();
  readonly #referrers = new Map<Digest, Set<Digest>>();
  /** Entries of somebody else's layout whose name is no tag: kept as they are. */
  readonly #foreign: Descriptor[] = [];
  #sorted: readonly string[] | undefined;

  manifest(digest: Digest): ManifestEntry | undefined {
    return this.#manifests.get(digest);
  }

  resolve(tag: string): Digest | undefined {
    return this.#tags.get(tag)?.digest;
  }

  manifests(): readonly ManifestEntry[] {
    return [...this.#manifests.values()];
  }

  /** What has a name, whether or not it is a manifest of this repository. */
  named(): readonly Digest[] {
    return [...this.#tags.values(), ...this.#foreign].map(({ digest }) => digest);
  }

  get tagCount(): number {
    return this.#tags.size;
  }

  /** In the order of code units, as the distribution-spec wants ("ASCIIbetical"). */
  sortedTags(): readonly string[] {
    this.#sorted ??= [...this.#tags.keys()].sort();
    return this.#sorted;
  }

  /** Sorted by digest, so that pages stay stable while others push and delete. */
  referrers(subject: Digest): readonly ManifestEntry[] {
    const digests = [...(this.#referrers.get(subject) ?? [])].sort();
    return digests.flatMap((digest) => this.#manifests.get(digest) ?? []);
  }

  addManifest(entry: ManifestEntry): void {
    this.#manifests.set(entry.digest, entry);
    if (entry.subject === undefined) return;
    const set = this.#referrers.get(entry.subject) ?? new Set();
    this.#referrers.set(entry.subject, set.add(entry.digest));
  }

  /** The manifest with its tags. */
  removeManifest(digest: Digest): void {
    const entry = this.#manifests.get(digest);
    this.#manifests.delete(digest);
    if (entry?.subject !== undefined) this.#referrers.get(entry.subject)?.delete(digest);
    for (const [tag, target] of this.#tags) if (target.digest === digest) this.removeTag(tag);
  }

  setTag(tag: string, target: Descriptor): void {
    this.#tags.set(tag, target);
    this.#sorted = undefined;
  }

  removeTag(tag: string): void {
    this.#tags.delete(tag);
    this.#sorted = undefined;
  }

  /** Takes over one entry of an `index.json`. */
  adopt(descriptor: Descriptor): void {
    const name = descriptor.annotations?.[refNameAnnotation];
    if (name === undefined) return;
    if (isTag(name)) this.setTag(name, descriptor);
    else this.#foreign.push(descriptor);
  }

  toIndex(): { readonly schemaVersion: 2; readonly mediaType: string; readonly manifests: readonly Descriptor[] } {
    const listed = new Set<Digest>(this.#foreign.map(({ digest }) => digest));
    const manifests: Descriptor[] = [...this.#foreign];
    for (const tag of this.sortedTags()) {
      const target = this.#tags.get(tag);
      if (target === undefined) continue;
      listed.add(target.digest);
      manifests.push({ ...target, annotations: { ...target.annotations, [refNameAnnotation]: tag } });
    }
    const children = new Set<Digest>();
    for (const entry of this.#manifests.values()) for (const child of entry.children) children.add(child);
    for (const { digest, mediaType, size } of this.#manifests.values()) {
      if (!listed.has(digest) && !children.has(digest)) manifests.push({ mediaType, digest, size });
    }
    return { schemaVersion: 2, mediaType: mediaTypes.index, manifests };
  }
}
