import { isDigest, type Digest } from "../bytes/index.ts";
import { mediaTypes } from "../oci/index.ts";
import { findRepository } from "./blob-routes.ts";
import type { ManifestEntry } from "./catalog.ts";
import { locationOf, type Exchange, type RegistryCore } from "./exchange.ts";
import { quote, Refusal } from "./refusal.ts";
import { bytesReply, jsonReply, type Reply } from "./reply.ts";

/** A referrers page is an image index and should fit where one fits. Source: OCI distribution-spec, "Pushing Manifests". */
const maxPageBytes = 4 * 1024 * 1024;

/** Source: OCI distribution-spec, "Listing Tags". */
export async function listTags(core: RegistryCore, exchange: Exchange, name: string): Promise<Reply> {
  const repository = await findRepository(core, name);
  const all = repository.catalog.sortedTags();
  if (core.quirks.tagPaging === "ignored") return jsonReply(200, { name, tags: all });
  const page = pageOf(all, exchange, core.quirks.tagPageMax);
  return jsonReply(200, { name, tags: page.items }, linkHeader(core, exchange, `/v2/${name}/tags/list`, page));
}

/** All repositories. Not of the specification; every registry product has it. Source: docker-registry, "Listing Repositories". */
export async function listRepositories(core: RegistryCore, exchange: Exchange): Promise<Reply> {
  const names = (await core.storage.names()).filter((name) => exchange.mayPull(name));
  const page = pageOf(names, exchange, core.quirks.tagPageMax);
  return jsonReply(200, { repositories: page.items }, linkHeader(core, exchange, "/v2/_catalog", page));
}

/** Source: OCI distribution-spec, "Listing Referrers". A subject that is not there, or a repository, has none. */
export async function listReferrers(core: RegistryCore, exchange: Exchange, name: string, subject: Digest): Promise<Reply> {
  if (core.quirks.referrers === "manifest-unknown") throw new Refusal("MANIFEST_UNKNOWN", { message: "manifest unknown" });
  if (core.quirks.referrers === "no-route") {
    return bytesReply(404, Buffer.from("404 page not found\n"), { "content-type": "text/plain; charset=utf-8" });
  }
  const repository = await core.storage.find(name);
  const artifactType = exchange.query.get("artifactType");
  const last = exchange.query.get("last");
  if (last !== null && !isDigest(last)) throw new Refusal("UNSUPPORTED", { status: 400, message: `last is not a digest: ${quote(last)}` });
  const all = (repository?.catalog.referrers(subject) ?? []).filter(
    (entry) => (artifactType === null || entry.artifactType === artifactType) && (last === null || entry.digest > last),
  );
  const { items, more } = referrersPage(all, core.limits.referrersPage);
  const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: items };
  const next = new URLSearchParams({ ...(artifactType === null ? {} : { artifactType }), last: items.at(-1)?.digest ?? "" });
  return jsonReply(200, index, {
    "content-type": mediaTypes.index,
    ...(artifactType === null ? {} : { "oci-filters-applied": "artifactType" }),
    ...(more ? { link: `<${locationOf(core, exchange, `/v2/${name}/referrers/${subject}?${next.toString()}`)}>; rel="next"` } : {}),
  });
}

function referrersPage(
  entries: readonly ManifestEntry[],
  maxCount: number,
): { readonly items: readonly ReferrerDescriptor[]; readonly more: boolean } {
  const items: ReferrerDescriptor[] = [];
  let size = 0;
  for (const entry of entries) {
    const item = referrerDescriptor(entry);
    size += Buffer.byteLength(JSON.stringify(item));
    // One entry always goes out, or a client would ask for the same page for ever.
    if (items.length > 0 && (items.length >= maxCount || size > maxPageBytes)) return { items, more: true };
    items.push(item);
  }
  return { items, more: false };
}

interface ReferrerDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

function referrerDescriptor({ mediaType, digest, size, artifactType, annotations }: ManifestEntry): ReferrerDescriptor {
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

interface Page {
  readonly items: readonly string[];
  readonly count: number;
  readonly more: boolean;
}

/** The entries after `last`, at most `n`. The list is sorted by code units. */
function pageOf(all: readonly string[], exchange: Exchange, maxCount: number): Page {
  const last = exchange.query.get("last");
  const text = exchange.query.get("n");
  if (text !== null && !/^\d{1,9}$/.test(text)) {
    throw new Refusal("UNSUPPORTED", { status: 400, message: `n is not a number of entries: ${quote(text)}`, detail: { n: text } });
  }
  const count = Math.min(text === null ? maxCount : Number(text), maxCount);
  const start = last === null ? 0 : firstAfter(all, last);
  return { items: all.slice(start, start + count), count, more: count > 0 && start + count < all.length };
}

function firstAfter(sorted: readonly string[], last: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? "") <= last) low = middle + 1;
    else high = middle;
  }
  return low;
}

function linkHeader(core: RegistryCore, exchange: Exchange, path: string, page: Page): Readonly<Record<string, string>> {
  if (!page.more) return {};
  const next = new URLSearchParams({ n: String(page.count), last: page.items.at(-1) ?? "" });
  return { link: `<${locationOf(core, exchange, `${path}?${next.toString()}`)}>; rel="next"` };
}
