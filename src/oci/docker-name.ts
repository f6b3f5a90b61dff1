import { isIPv6 } from "node:net";
import { isDigest, type Digest } from "../bytes/index.ts";
import { nameError, slicePart, type Part } from "./name-error.ts";

/** A repository in a registry. */
export interface RepositoryName {
  /**
   * Lower-case host, with `:PORT` where one was given; IPv6 in brackets. The Docker Hub is `docker.io` under all its
   * names (its API answers at `registry-1.docker.io`).
   */
  readonly host: string;
  /** The path in the registry, at most 255 characters. */
  readonly repository: string;
}

/** An image in a registry. At least one of tag and digest is there; with both, the digest decides. */
export interface DockerName extends RepositoryName {
  readonly transport: "docker";
  readonly tag?: string;
  readonly digest?: Digest;
}

/** The Docker Hub's canonical name. Source: reference E 1.1 (distribution's reference library, regclient). */
export const dockerHub = "docker.io";
const hubNames: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

const maxRepositoryLength = 255;
const maxTagLength = 128;
const maxHostLength = 253;
const maxLabelLength = 63;

// Source: OCI distribution-spec, "Pulling manifests": the grammar of <name> and of <reference> as a tag.
const component = /^[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*$/;
const tagGrammar = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const hostLabel = /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/;

/** Whether a text is a tag. Source: OCI distribution-spec, "Pulling manifests". */
export function isTag(text: string): boolean {
  return tagGrammar.test(text);
}

/** Parses `[HOST/]NAME[:TAG][@DIGEST]` as docker does; without tag and digest the tag is `latest`. */
export function parseDockerPart(part: Part): DockerName {
  checkCharacters(part);
  const at = part.text.indexOf("@");
  const digest = at < 0 ? undefined : parseDigestPart(slicePart(part, at + 1));
  const beforeDigest = slicePart(part, 0, at < 0 ? undefined : at);
  const colon = beforeDigest.text.indexOf(":", beforeDigest.text.lastIndexOf("/") + 1);
  // `[::1]:5000` without a path has its colons in the host.
  const hasTag = colon >= 0 && !beforeDigest.text.slice(beforeDigest.text.lastIndexOf("/") + 1).startsWith("[");
  const name = slicePart(beforeDigest, 0, hasTag ? colon : undefined);
  const repository = parseRepositoryPart(name);
  const tag = hasTag ? parseTagPart(slicePart(beforeDigest, colon + 1), name) : undefined;
  return {
    transport: "docker",
    ...repository,
    ...(tag === undefined ? (digest === undefined ? { tag: "latest" } : {}) : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** Parses `[HOST/]NAME`, without tag and digest. */
export function parseRepositoryPart(part: Part): RepositoryName {
  checkCharacters(part);
  const { text } = part;
  const slash = text.indexOf("/");
  if (slash === 0) throw nameError(part, 0, "a host or repository is missing before the slash");
  const first = slash < 0 ? "" : text.slice(0, slash);
  // Docker also takes a lone upper-case word for a host. In the one spelling of hosts, lower case, it would be a part of
  // a Hub repository: two readers, two images. So it is neither.
  const isHost = /[.:[]/.test(first) || first.toLowerCase() === "localhost";
  if (slash < 0 && text.startsWith("[")) throw nameError(part, text.length, "a host needs /NAME after it");
  const host = isHost ? parseHost(slicePart(part, 0, slash)) : dockerHub;
  const path = isHost ? slicePart(part, slash + 1) : part;
  checkRepository(path);
  if (!isHost && /^[0-9a-f]{64}$/.test(text)) {
    throw nameError(part, 0, "64 hex digits are an image ID, which no registry knows", "write the image's name, or NAME@sha256:DIGEST");
  }
  const repository = hubNames.has(host) && !path.text.includes("/") ? `library/${path.text}` : path.text;
  if (repository.length > maxRepositoryLength) {
    throw nameError(path, maxRepositoryLength, `the repository has ${repository.length} characters, more than ${maxRepositoryLength}`);
  }
  return { host: hubNames.has(host) ? dockerHub : host, repository };
}

function parseHost(part: Part): string {
  const { text } = part;
  const bracketed = text.startsWith("[");
  const close = text.indexOf("]");
  if (bracketed && close < 0) throw nameError(part, text.length, "the ] of an IPv6 address is missing");
  const nameEnd = bracketed ? close + 1 : text.includes(":") ? text.indexOf(":") : text.length;
  const name = slicePart(part, 0, nameEnd);
  const rest = text.slice(nameEnd);
  if (rest !== "" && !rest.startsWith(":")) throw nameError(part, nameEnd, "after the ] only a port may come");
  const port = rest === "" ? "" : parsePort(slicePart(part, nameEnd + 1));
  return (bracketed ? parseIpv6(name) : parseHostName(name)) + port;
}

function parsePort(part: Part): string {
  const bad = part.text.search(/[^0-9]/);
  if (part.text === "" || bad >= 0) throw nameError(part, Math.max(bad, 0), "a port number is missing after the colon");
  const port = Number(part.text);
  if (port < 1 || port > 65535 || part.text.startsWith("0"))
    throw nameError(part, 0, `port ${part.text.slice(0, 20)} is not between 1 and 65535`);
  return `:${port}`;
}

function parseIpv6(part: Part): string {
  const address = part.text.slice(1, -1);
  const zone = address.indexOf("%");
  if (zone >= 0) throw nameError(part, 1 + zone, "an IPv6 address with a zone is not a registry that others could reach");
  if (!isIPv6(address)) throw nameError(part, 1, "this is not an IPv6 address");
  return new URL(`http://${part.text}`).hostname;
}

function parseHostName(part: Part): string {
  const { text } = part;
  if (text.length > maxHostLength) throw nameError(part, maxHostLength, `the host has more than ${maxHostLength} characters`);
  let at = 0;
  for (const label of text.split(".")) {
    if (label === "") throw nameError(part, at, "a label of the host is empty");
    if (!hostLabel.test(label)) {
      const bad = label.search(/[^A-Za-z0-9-]/);
      if (bad >= 0) throw nameError(part, at + bad, `${JSON.stringify(label.charAt(bad))} is not allowed in a host`);
      throw nameError(part, label.startsWith("-") ? at : at + label.length - 1, "a label of a host begins and ends with a letter or digit");
    }
    if (label.length > maxLabelLength)
      throw nameError(part, at + maxLabelLength, `a label of the host has more than ${maxLabelLength} characters`);
    at += label.length + 1;
  }
  const host = text.toLowerCase();
  // URL parsers read 127.1, 0x7f.1 and 2130706433 as addresses: two spellings of one host would defeat exact comparison.
  const canonical = URL.canParse(`http://${host}/`) ? new URL(`http://${host}/`).hostname : undefined;
  if (canonical !== host) {
    throw nameError(part, 0, canonical === undefined ? "this is not a host" : `this is another spelling of ${canonical}; write that`);
  }
  return host;
}

function checkRepository(part: Part): void {
  if (part.text === "") throw nameError(part, 0, "a repository is missing");
  let at = 0;
  for (const name of part.text.split("/")) {
    if (!component.test(name)) throw componentError(slicePart(part, at, at + name.length));
    at += name.length + 1;
  }
}

function componentError(part: Part): Error {
  const { text } = part;
  if (text === "") return nameError(part, 0, "a part of the repository is empty");
  const bad = text.search(/[^a-z0-9._-]/);
  if (bad >= 0) {
    const character = text.charAt(bad);
    const reason = /[A-Z]/.test(character)
      ? "a repository has no upper-case letters"
      : `${JSON.stringify(character)} is not allowed in a repository`;
    return nameError(part, bad, reason);
  }
  const edge = /^[._-]/.test(text) ? 0 : /[._-]$/.test(text) ? text.length - 1 : undefined;
  if (edge !== undefined) return nameError(part, edge, "each part of a repository begins and ends with a letter or digit");
  const doubled = /\.[._-]|___|_[.-]|-[._]/.exec(text);
  return nameError(
    part,
    doubled === null ? 0 : doubled.index + doubled[0].length - 1,
    "only one dot, one or two underscores, or dashes may stand between letters and digits",
  );
}

function parseTagPart(part: Part, name: Part): string {
  if (part.text === "") throw nameError(part, 0, "a tag is missing after the colon");
  if (/(?:^|\/)sha(?:256|384|512)$/.test(name.text) && /^[0-9a-f]{64,}$/.test(part.text)) {
    throw nameError(part, -1, "a digest is written after @, not as a tag", "write NAME@sha256:DIGEST");
  }
  const bad = part.text.search(/[^A-Za-z0-9._-]/);
  if (bad >= 0) throw nameError(part, bad, `${JSON.stringify(part.text.charAt(bad))} is not allowed in a tag`);
  if (part.text.length > maxTagLength)
    throw nameError(part, maxTagLength, `the tag has ${part.text.length} characters, more than ${maxTagLength}`);
  if (!isTag(part.text)) throw nameError(part, 0, "a tag begins with a letter, digit or underscore");
  return part.text;
}

function parseDigestPart(part: Part): Digest {
  const { text } = part;
  if (isDigest(text)) return text;
  const colon = text.indexOf(":");
  if (colon < 0) throw nameError(part, text.length, "a digest is ALGORITHM:HEX");
  const length = { sha256: 64, sha384: 96, sha512: 128 }[text.slice(0, colon)];
  if (length === undefined)
    throw nameError(
      part,
      0,
      `digest algorithm ${JSON.stringify(text.slice(0, Math.min(colon, 40)))} is not supported (sha256, sha384, sha512 are)`,
    );
  const bad = text.slice(colon + 1).search(/[^0-9a-f]/);
  if (bad >= 0) throw nameError(part, colon + 1 + bad, "a digest is lower-case hex");
  const got = text.length - colon - 1;
  throw nameError(part, colon + 1 + Math.min(got, length), `a ${text.slice(0, colon)} digest has ${length} hex digits, this one ${got}`);
}

function checkCharacters(part: Part): void {
  if (part.text === "") throw nameError(part, 0, "the name is empty");
  const bad = part.text.search(/[^\x21-\x7e]/);
  if (bad >= 0)
    throw nameError(part, bad, /\s/.test(part.text.charAt(bad)) ? "white space is not allowed" : "only printable ASCII is allowed");
}
