import type { Digest } from "../bytes/index.ts";
import { mediaTypes, parseIndex, type Descriptor, type ImageIndex, type ImageManifest } from "../oci/index.ts";
import { StoreError, type CallOptions, type ReferrersFilter } from "../store/index.ts";
import { registryLimits } from "./options.ts";
import { endless, readPages } from "./pages.ts";
import { fetchManifest, type PutManifestResult } from "./manifests.ts";
import { ReferrersTagWriter, readReferrersTag } from "./referrers-tag.ts";
import type { RepositoryClient } from "./repository-client.ts";
import { Backoff, pause } from "./retry.ts";

/** Entries of a fallback index that are opened because their type cannot be right. */
const maxOpened = 500;

/**
 * The manifests whose subject is the target: what the referrers API says, and what the fallback tag says.
 *
 * Both are always asked: a registry may have learnt the API after entries had been written under the tag, and a client
 * may have written the tag although the API is there. Not being able to list is an error, never an empty list.
 * Source: distribution-spec, "Listing Referrers" and "Unavailable Referrers API".
 */
export async function listReferrers(
  client: RepositoryClient,
  subject: Descriptor,
  name: string,
  filter: ReferrersFilter,
): Promise<readonly Descriptor[]> {
  const [fromApi, fromTag] = await Promise.all([
    readReferrersApi(client, subject.digest, name, filter),
    readReferrersTag(client, subject.digest, name, filter).then((tag) =>
      typeof tag === "string" ? [] : checkedEntries(client, tag.document.manifests, subject.digest, name, filter),
    ),
  ]);
  const all = new Map<Digest, Descriptor>();
  // Where both know an entry the registry's own is kept: it is made from the manifest.
  for (const entry of [...(fromApi ?? []), ...fromTag]) if (!all.has(entry.digest)) all.set(entry.digest, entry);
  const list = [...all.values()];
  // The registry's filter is only a hint that saves bytes (OCI-Filters-Applied); ours decides.
  return filter.artifactType === undefined ? list : list.filter(({ artifactType }) => artifactType === filter.artifactType);
}

/** `undefined` when the registry has no such API. */
export async function readReferrersApi(
  client: RepositoryClient,
  subject: Digest,
  name: string,
  filter: ReferrersFilter,
): Promise<readonly Descriptor[] | undefined> {
  const query = filter.artifactType === undefined ? "" : `?artifactType=${encodeURIComponent(filter.artifactType)}`;
  const text = `referrers of ${subject} in ${name}`;
  const call = {
    method: "GET",
    target: `referrers/${subject}${query}`,
    subject: text,
    expect: [200, 400, 404, 405, 406],
    headers: { accept: mediaTypes.index },
    signal: filter.signal,
  } as const;
  const entries: Descriptor[] = [];
  for await (const page of readPages(client, call, registryLimits.referrersPage)) {
    // Old registries answer 404, 400 or 405, or something that is not an index: they do not have the API.
    if (page.status !== 200 || page.headers.mediaType() !== mediaTypes.index) return undefined;
    entries.push(...parseIndex(page.bytes, mediaTypes.index).manifests);
    if (entries.length > registryLimits.referrers) throw endless(text, `have more than ${registryLimits.referrers} entries`);
  }
  return entries;
}

/**
 * The entries of a fallback index, those with an impossible type replaced by what their manifest says.
 *
 * cosign 3.1.1 writes the empty config's type as artifactType and leaves the annotations out (E-registry, section 0).
 * Entries whose manifest is gone or names another subject are left out.
 */
async function checkedEntries(
  client: RepositoryClient,
  entries: readonly Descriptor[],
  subject: Digest,
  name: string,
  options: CallOptions,
): Promise<readonly Descriptor[]> {
  let opened = 0;
  const checked = await Promise.all(
    entries.map(async (entry) => {
      if (entry.artifactType !== undefined && entry.artifactType !== mediaTypes.empty) return entry;
      opened += 1;
      if (opened > maxOpened) return entry;
      try {
        const { document } = await fetchManifest(client, entry.digest, `referrer ${entry.digest} in ${name}`, options);
        if (document.subject?.digest !== subject) return undefined;
        return describeReferrer(entry, document);
      } catch (error) {
        if (error instanceof StoreError) return undefined;
        throw error;
      }
    }),
  );
  return checked.filter((entry) => entry !== undefined);
}

/** The entry of a referrer in a list: its own artifactType, else its config's media type; all its annotations. Source: distribution-spec, "Pushing Manifests with Subject". */
export function describeReferrer(descriptor: Descriptor, document: ImageManifest | ImageIndex): Descriptor {
  const { mediaType, digest, size } = descriptor;
  const artifactType = document.artifactType ?? ("config" in document ? document.config.mediaType : undefined);
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(document.annotations === undefined ? {} : { annotations: document.annotations }),
  };
}

/** What {@link recordReferrer} works with; `put` pushes the manifest once more. */
export interface ReferrerContext {
  readonly client: RepositoryClient;
  readonly name: string;
  readonly put: () => Promise<PutManifestResult>;
}

/**
 * Makes sure that a pushed manifest is listed as a referrer of its subject.
 *
 * A registry that answered with OCI-Subject keeps the list itself; it is asked once whether the entry is there, and the
 * manifest is put again when not: registries lose entries under parallel writers (E-registry, section 1.10). Without
 * OCI-Subject the fallback tag is written.
 */
export async function recordReferrer(
  context: ReferrerContext,
  subject: Descriptor,
  entry: Descriptor,
  result: PutManifestResult,
  options: CallOptions,
): Promise<void> {
  const { client, name, put } = context;
  if (!result.subjectProcessed) return new ReferrersTagWriter(client, name).add(subject.digest, entry, options);
  const backoff = new Backoff(client.transport.retry);
  for (;;) {
    const listed = await readReferrersApi(client, subject.digest, name, options);
    if (listed === undefined || listed.some(({ digest }) => digest === entry.digest)) return;
    const waitMs = backoff.next();
    if (waitMs === undefined) {
      // It took the manifest and said that it minds the subject; some list it only after a while (ACR).
      const text = `${name}: the registry does not yet list ${entry.digest} among the referrers of ${subject.digest}`;
      client.transport.notify({ kind: "warning", host: client.origin.host, text });
      return;
    }
    await pause(waitMs, options.signal);
    await put();
  }
}
