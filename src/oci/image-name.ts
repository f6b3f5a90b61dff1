import { parseDockerPart, parseRepositoryPart, type DockerName, type RepositoryName } from "./docker-name.ts";
import { nameError, slicePart, type Part } from "./name-error.ts";

/** An image in an OCI image layout: a directory, or a tar file of one. `reference` is a ref name or a digest. */
export interface LayoutName {
  readonly transport: "oci" | "oci-archive";
  readonly path: string;
  readonly reference?: string;
}

/** An image in what `docker save` writes. `reference` is `HOST/NAME:TAG`, normalised, or `@N`, counted from 0. */
export interface DockerArchiveName {
  readonly transport: "docker-archive";
  readonly path: string;
  readonly reference?: string;
}

/** skopeo's one-image directory. */
export interface DirName {
  readonly transport: "dir";
  readonly path: string;
}

/** Where an image is, told apart by `transport`. Source: the product's contract, "Image names"; containers-transports(5). */
export type ImageName = DockerName | LayoutName | DockerArchiveName | DirName;

const pathTransports = ["oci", "oci-archive", "docker-archive", "dir"] as const;
const foreign: Readonly<Record<string, string>> = {
  "docker-daemon": "run: docker save NAME -o FILE, then use docker-archive:FILE",
  "containers-storage": "run: podman save --format oci-archive NAME -o FILE, then use oci-archive:FILE",
  ostree: "copy the image with skopeo to oci:DIR first",
  sif: "copy the image with skopeo to oci:DIR first",
  tarball: "copy the image with skopeo to oci:DIR first",
};
const maxLength = 4096;
const maxReferenceLength = 1024;

// Source: containers/image, oci transport: the names that skopeo reads and writes; a superset of OCI image-spec,
// annotations.md, "org.opencontainers.image.ref.name".
const refComponent = "[A-Za-z0-9]+(?:(?:--|[-._:@+])[A-Za-z0-9]+)*";
const refGrammar = new RegExp(`^${refComponent}(?:/${refComponent})*$`);
const positionGrammar = /^@(?:0|[1-9][0-9]{0,5})$/;

/** Whether a text can be the name of an image in a layout (`org.opencontainers.image.ref.name`). */
export function isRefName(text: string): boolean {
  return text.length <= maxReferenceLength && refGrammar.test(text);
}

/**
 * Parses what a user writes for an image; no input or output.
 *
 * A bare `[HOST/]NAME[:TAG][@DIGEST]` means `docker://`, normalised as docker does: no host means `docker.io`, one
 * component there gets `library/`, neither tag nor digest means `:latest`. In `oci:DIR:REF` the first colon ends the
 * path, as in skopeo, so that a REF can be `localhost:5000/app:1.0`.
 *
 * Throws `ERR_IMAGE_NAME_MALFORMED` with the position of what is wrong, counted from 1.
 */
export function parseImageName(text: string): ImageName {
  const whole: Part = { text, at: 0, whole: text };
  if (text.length > maxLength) throw nameError(whole, maxLength, `the name has ${text.length} characters, more than ${maxLength}`);
  if (text.startsWith("docker://")) return parseDockerPart(slicePart(whole, "docker://".length));
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//.exec(text)?.[1];
  if (scheme !== undefined) {
    throw nameError(
      whole,
      0,
      `${scheme}:// is not a transport`,
      scheme.startsWith("http") ? "write docker://HOST/NAME, or just HOST/NAME" : undefined,
    );
  }
  const prefix = text.slice(0, Math.max(text.indexOf(":"), 0));
  const transport = pathTransports.find((name) => name === prefix);
  if (transport !== undefined) return parsePathName(transport, slicePart(whole, prefix.length + 1));
  const advice = Object.hasOwn(foreign, prefix) ? foreign[prefix] : undefined;
  if (advice !== undefined) throw nameError(whole, 0, `transport ${prefix} is not supported`, advice);
  return parseDockerPart(whole);
}

/** Parses `[docker://][HOST/]NAME` without tag and digest, as for `--signature-repository`. Throws `ERR_IMAGE_NAME_MALFORMED`. */
export function parseRepositoryName(text: string): RepositoryName {
  const whole: Part = { text, at: 0, whole: text };
  if (text.length > maxLength) throw nameError(whole, maxLength, `the name has ${text.length} characters, more than ${maxLength}`);
  return parseRepositoryPart(text.startsWith("docker://") ? slicePart(whole, "docker://".length) : whole);
}

/** The full spelling of a name; {@link parseImageName} gives the same name back. */
export function formatImageName(name: ImageName): string {
  switch (name.transport) {
    case "docker":
      return `docker://${name.host}/${name.repository}${name.tag === undefined ? "" : `:${name.tag}`}${name.digest === undefined ? "" : `@${name.digest}`}`;
    case "dir":
      return `dir:${name.path}`;
    case "oci":
    case "oci-archive":
    case "docker-archive":
      return `${name.transport}:${name.path}${name.reference === undefined ? "" : `:${name.reference}`}`;
  }
}

function parsePathName(transport: (typeof pathTransports)[number], part: Part): ImageName {
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is looked for
  const bad = part.text.search(/[\x00-\x1f\x7f]/);
  if (bad >= 0) throw nameError(part, bad, "control characters are not allowed in a path");
  if (transport === "dir") {
    if (part.text === "") throw nameError(part, 0, "a directory is missing");
    return { transport, path: part.text };
  }
  const colon = part.text.indexOf(":");
  const path = colon < 0 ? part.text : part.text.slice(0, colon);
  if (path === "") throw nameError(part, 0, transport === "oci" ? "a directory is missing" : "a file is missing");
  if (colon < 0) return { transport, path };
  const reference = slicePart(part, colon + 1);
  return { transport, path, reference: transport === "docker-archive" ? parseArchiveTag(reference) : parseRefName(reference) };
}

function parseRefName(part: Part): string {
  if (part.text === "") throw nameError(part, 0, "a reference is missing after the colon", "leave the colon away to mean the only image");
  if (part.text.length > maxReferenceLength)
    throw nameError(part, maxReferenceLength, `the reference has more than ${maxReferenceLength} characters`);
  if (positionGrammar.test(part.text) || isRefName(part.text)) return part.text;
  const bad = part.text.search(/[^A-Za-z0-9._:@+/-]/);
  if (bad >= 0) throw nameError(part, bad, `${JSON.stringify(part.text.charAt(bad))} is not allowed in a reference`);
  const separator = part.text.search(/^[-._:@+/]|[-._:@+/](?=\/|$)|[._:@+/](?=[-._:@+])|-(?=[._:@+])|---/);
  throw nameError(
    part,
    Math.max(separator, 0),
    "each part of a reference begins and ends with a letter or digit, with single separators between",
  );
}

function parseArchiveTag(part: Part): string {
  if (positionGrammar.test(part.text)) return part.text;
  const name = parseDockerPart(part);
  if (name.digest !== undefined) throw nameError(part, part.text.indexOf("@"), "a docker-archive knows no digests", "write NAME:TAG");
  return `${name.host}/${name.repository}:${name.tag ?? "latest"}`;
}
