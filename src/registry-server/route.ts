import { isDigest, type Digest } from "../bytes/index.ts";
import { quote, Refusal } from "./refusal.ts";

/** Source: OCI distribution-spec, "Pulling manifests"; 255 is what docker-registry 2.8 accepts. */
const nameGrammar = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagGrammar = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const uploadGrammar = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const maxNameLength = 255;
const maxPathLength = 1024;

export function isRepositoryName(text: string): boolean {
  return text.length <= maxNameLength && nameGrammar.test(text);
}

export function isTag(text: string): boolean {
  return tagGrammar.test(text);
}

/** A tag or a digest, as `/manifests/` takes it. */
export type Reference = { readonly kind: "tag"; readonly tag: string } | { readonly kind: "digest"; readonly digest: Digest };

/** Where a request goes. Every name in it has passed its grammar: nothing in it can leave a folder. */
export type Route =
  | { readonly kind: "base" }
  | { readonly kind: "catalog" }
  | { readonly kind: "token" }
  | { readonly kind: "blob"; readonly name: string; readonly digest: Digest }
  | { readonly kind: "uploads"; readonly name: string }
  | { readonly kind: "upload"; readonly name: string; readonly id: string }
  | { readonly kind: "manifest"; readonly name: string; readonly reference: Reference }
  | { readonly kind: "tags"; readonly name: string }
  | { readonly kind: "referrers"; readonly name: string; readonly digest: Digest };

/** The path of the built-in token endpoint. */
export const tokenPath = "/auth/token";

/** Parses the path of a request target. `undefined`: no such endpoint. Throws a {@link Refusal} for a malformed name, tag or digest. */
export function parseRoute(path: string): Route | undefined {
  if (path === tokenPath) return { kind: "token" };
  if (path === "/v2/" || path === "/v2") return { kind: "base" };
  if (path === "/v2/_catalog") return { kind: "catalog" };
  if (!path.startsWith("/v2/") || path.length > maxPathLength) return undefined;
  const parts = path.slice("/v2/".length).split("/").map(decodeSegment);
  const last = parts.at(-1) ?? "";
  const before = parts.at(-2);
  // A trailing slash belongs to the upload collection and to nothing else.
  if (last === "" && before === "uploads" && parts.at(-3) === "blobs") return { kind: "uploads", name: parseName(parts.slice(0, -3)) };
  if (last === "uploads" && before === "blobs") return { kind: "uploads", name: parseName(parts.slice(0, -2)) };
  if (before === "uploads" && parts.at(-3) === "blobs")
    return { kind: "upload", name: parseName(parts.slice(0, -3)), id: parseUploadId(last) };
  const name = () => parseName(parts.slice(0, -2));
  if (before === "blobs") return { kind: "blob", name: name(), digest: parseDigestText(last) };
  if (before === "manifests") return { kind: "manifest", name: name(), reference: parseReference(last) };
  if (before === "referrers") return { kind: "referrers", name: name(), digest: parseDigestText(last) };
  if (before === "tags" && last === "list") return { kind: "tags", name: name() };
  return undefined;
}

/** Throws `DIGEST_INVALID`. */
export function parseDigestText(text: string): Digest {
  if (isDigest(text)) return text;
  throw new Refusal("DIGEST_INVALID", {
    message: `${quote(text)} is not a digest that this registry accepts (sha256, sha384 or sha512 in lower-case hex)`,
  });
}

/** Throws `NAME_INVALID`. */
export function parseRepositoryName(text: string): string {
  if (isRepositoryName(text)) return text;
  throw new Refusal("NAME_INVALID", {
    message: `${quote(text)} is not a repository name (lower-case path of at most ${maxNameLength} characters)`,
  });
}

function parseName(parts: readonly string[]): string {
  return parseRepositoryName(parts.join("/"));
}

function parseReference(text: string): Reference {
  if (text.includes(":")) return { kind: "digest", digest: parseDigestText(text) };
  if (isTag(text)) return { kind: "tag", tag: text };
  throw new Refusal("MANIFEST_UNKNOWN", { message: `${quote(text)} is neither a tag nor a digest` });
}

function parseUploadId(text: string): string {
  if (uploadGrammar.test(text)) return text;
  throw new Refusal("BLOB_UPLOAD_UNKNOWN", { message: `no upload session ${quote(text)}` });
}

function decodeSegment(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal("NAME_INVALID", { message: "the path has a malformed percent escape" });
  }
}
