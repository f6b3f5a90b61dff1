import { parseJson } from "../bytes/index.ts";
import type { CallOptions } from "../store/index.ts";
import { RegistryError } from "./errors.ts";
import { registryLimits } from "./options.ts";
import { endless, readPages } from "./pages.ts";
import type { RepositoryClient } from "./repository-client.ts";

/** All tags, sorted by code unit. Source: distribution-spec, "Listing Tags". */
export async function listTags(client: RepositoryClient, name: string, options: CallOptions): Promise<readonly string[]> {
  const subject = `tags of ${name}`;
  const call = {
    method: "GET",
    target: "tags/list?n=1000",
    subject,
    expect: [200],
    headers: { accept: "application/json" },
    ...options,
  } as const;
  const tags = new Set<string>();
  for await (const page of readPages(client, call, registryLimits.tagsPage)) {
    for (const tag of parsePage(page.bytes, subject)) tags.add(tag);
    if (tags.size > registryLimits.entries) throw endless(subject, `are more than ${registryLimits.entries}`);
  }
  return [...tags].sort();
}

function parsePage(bytes: Uint8Array, subject: string): readonly string[] {
  const document = parseJson(bytes, { maxBytes: registryLimits.tagsPage, subject });
  const tags = typeof document === "object" && document !== null && "tags" in document ? document.tags : undefined;
  // docker-registry answers null for a repository whose tags are all gone.
  if (tags === null) return [];
  if (!Array.isArray(tags) || !tags.every((tag): tag is string => typeof tag === "string" && tag.length <= 128)) {
    throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
      message: `${subject} were answered with something that is no list of tags`,
      hint: "check host and port: what answers there does not behave as a registry",
    });
  }
  return tags;
}
