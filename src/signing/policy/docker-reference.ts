import { isDigest, type Digest } from "../../bytes/index.ts";

/** An image name as docker understands it, in full: domain and path, and a tag or a digest or neither. */
export interface DockerReference {
  /** `docker.io/library/busybox`. */
  readonly name: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

/** Source: distribution/reference regexp.go. */
const component = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const host = `(?:${component}(?:\\.${component})*|\\[[a-fA-F0-9:]+\\])`;
export const domainPattern = `${host}(?::[0-9]+)?`;
const pathComponent = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
export const namePattern = `(?:${domainPattern}/)?${pathComponent}(?:/${pathComponent})*`;
const reference = new RegExp(`^(${namePattern})(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@([A-Za-z0-9+._-]+:[0-9a-fA-F]{32,}))?$`);

const maxNameLength = 255;

/**
 * Parses a name as users write it, with docker's defaults for domain and `library/`; no tag is added. `undefined` where
 * docker would refuse it. Source: distribution/reference normalize.go, `ParseNormalizedNamed`.
 */
export function parseDockerReference(text: string): DockerReference | undefined {
  if (/^[a-f0-9]{64}$/.test(text)) return undefined;
  const slash = text.indexOf("/");
  const first = slash < 0 ? "" : text.slice(0, slash);
  const isDomain = slash >= 0 && (/[.:]/.test(first) || first === "localhost" || first.toLowerCase() !== first);
  const domain = !isDomain || first === "index.docker.io" ? "docker.io" : first;
  const rest = isDomain ? text.slice(slash + 1) : text;
  const path = domain === "docker.io" && !rest.includes("/") ? `library/${rest}` : rest;
  const match = reference.exec(`${domain}/${path}`);
  const [, name = "", tag, digest] = match ?? [];
  if (match === null || name.length > maxNameLength) return undefined;
  if (digest !== undefined && !isDigest(digest)) return undefined;
  return { name, tag, digest };
}

/** The name as it was parsed, in full. */
export function formatDockerReference({ name, tag, digest }: DockerReference): string {
  return `${name}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

export function isNameOnly({ tag, digest }: DockerReference): boolean {
  return tag === undefined && digest === undefined;
}
