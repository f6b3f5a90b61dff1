import { parseNextLink } from "./content-range.ts";
import { RegistryError } from "./errors.ts";
import { registryLimits } from "./options.ts";
import { ownLocation } from "./redirects.ts";
import type { Call, DocumentReply, RepositoryClient } from "./repository-client.ts";

/**
 * Reads a listing page by page (`Link: <…>; rel="next"`). The next page must lie on the registry's own origin; a page
 * named twice, or more pages than the limit, end with `ERR_REGISTRY_PROTOCOL`: an endless list must not keep us for ever.
 */
export async function* readPages(client: RepositoryClient, first: Call, maxBytes: number): AsyncGenerator<DocumentReply> {
  const seen = new Set<string>();
  let target: string | URL = first.target;
  for (let page = 0; ; page += 1) {
    if (page >= registryLimits.pages) throw endless(first.subject, `has more than ${registryLimits.pages} pages`);
    const reply: DocumentReply = await client.document({ ...first, target, expect: page === 0 ? first.expect : [200] }, maxBytes);
    yield reply;
    const next = reply.status === 200 ? parseNextLink(reply.headers.all("link")) : undefined;
    if (next === undefined) return;
    const url = ownLocation(next, reply.url, client.origin, first.subject);
    if (seen.has(url.href)) throw endless(first.subject, "names the same page twice");
    seen.add(url.href);
    target = url;
  }
}

/** The error for a listing that does not end. */
export function endless(subject: string, what: string): RegistryError {
  return new RegistryError("ERR_REGISTRY_PROTOCOL", {
    message: `${subject} ${what}`,
    hint: "the registry is broken or hostile; tell its owner",
  });
}
