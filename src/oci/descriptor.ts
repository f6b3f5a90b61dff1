import { isDigest, type Digest } from "../bytes/index.ts";
import { OciError } from "./errors.ts";

export type Annotations = Readonly<Record<string, string>>;

/** Source: OCI image-spec, image-index.md, "platform". */
export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly "os.version"?: string;
  readonly "os.features"?: readonly string[];
  readonly variant?: string;
}

/** Names content by type, digest and size in bytes. Source: OCI image-spec, descriptor.md. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Annotations;
  /** Base64 of the whole content, for small content. */
  readonly data?: string;
  readonly artifactType?: string;
  readonly platform?: Platform;
}

/** RFC 6838 section 4.2 names, as image-spec demands. */
const mediaTypeGrammar = /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;

/** Checks a descriptor of foreign origin; unknown members are kept. Throws `ERR_MANIFEST_MALFORMED`, naming `where`. */
export function parseDescriptor(value: unknown, where: string): Descriptor {
  const object = asObject(value, where);
  const { mediaType, digest, size, urls, annotations, data, artifactType, platform } = object;
  if (typeof mediaType !== "string" || !mediaTypeGrammar.test(mediaType)) throw malformed(`${where}.mediaType is not a media type`);
  if (typeof digest !== "string" || !isDigest(digest)) throw malformed(`${where}.digest is not a digest`);
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) throw malformed(`${where}.size is not a size in bytes`);
  if (urls !== undefined && !isStringArray(urls)) throw malformed(`${where}.urls is not a list of texts`);
  if (annotations !== undefined) parseAnnotations(annotations, `${where}.annotations`);
  if (data !== undefined && typeof data !== "string") throw malformed(`${where}.data is not text`);
  if (artifactType !== undefined && typeof artifactType !== "string") throw malformed(`${where}.artifactType is not text`);
  if (platform !== undefined) parsePlatformObject(platform, `${where}.platform`);
  return object as unknown as Descriptor;
}

/** A string-to-string map. Throws `ERR_MANIFEST_MALFORMED`. */
export function parseAnnotations(value: unknown, where: string): Annotations {
  for (const [key, text] of Object.entries(asObject(value, where))) {
    if (typeof text !== "string") throw malformed(`${where}[${JSON.stringify(key.slice(0, 80))}] is not text`);
  }
  return value as Annotations;
}

function parsePlatformObject(value: unknown, where: string): Platform {
  const platform = asObject(value, where);
  for (const name of ["architecture", "os"]) {
    if (typeof platform[name] !== "string") throw malformed(`${where}.${name} is missing or not text`);
  }
  for (const name of ["variant", "os.version"]) {
    if (platform[name] !== undefined && typeof platform[name] !== "string") throw malformed(`${where}.${name} is not text`);
  }
  const features = platform["os.features"];
  if (features !== undefined && !isStringArray(features)) throw malformed(`${where}["os.features"] is not a list of texts`);
  return value as Platform;
}

export function asObject(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${where} is not an object`);
  return value as Record<string, unknown>;
}

export function malformed(message: string, cause?: unknown): OciError {
  return new OciError("ERR_MANIFEST_MALFORMED", {
    message,
    cause,
    hint: "the image was built or changed by something that does not follow the OCI image-spec; rebuild or re-push it",
  });
}

function isStringArray(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
