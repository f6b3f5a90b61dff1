import { isDigest } from "../bytes/index.ts";
import { RegistryError } from "./errors.ts";

const repositoryGrammar = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagGrammar = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** Throws `ERR_REGISTRY_NAME_MALFORMED`. The result is safe as a URL path. Source: distribution-spec, "Pulling manifests". */
export function checkRepository(name: string): string {
  if (name.length <= 255 && repositoryGrammar.test(name)) return name;
  throw new RegistryError("ERR_REGISTRY_NAME_MALFORMED", {
    message: `${JSON.stringify(name.slice(0, 120))} is not a repository name`,
    hint: "names are lower-case letters, digits and single separators (. _ __ -), in parts divided by /, at most 255 characters",
  });
}

/** Throws `ERR_REGISTRY_NAME_MALFORMED`. The result is safe as a URL path. */
export function checkTag(tag: string): string {
  if (tagGrammar.test(tag)) return tag;
  throw new RegistryError("ERR_REGISTRY_NAME_MALFORMED", {
    message: `${JSON.stringify(tag.slice(0, 140))} is not a tag`,
    hint: "tags are letters, digits, dots, underscores and dashes, at most 128, not beginning with a dot or dash",
  });
}

/** A tag or a digest. Throws `ERR_REGISTRY_NAME_MALFORMED`. */
export function checkReference(reference: string): string {
  return isDigest(reference) ? reference : checkTag(reference);
}
