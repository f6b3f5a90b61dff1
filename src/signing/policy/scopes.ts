import { posix } from "node:path";
import { SigningError } from "../errors.ts";
import { domainPattern, formatDockerReference, namePattern, parseDockerReference, type DockerReference } from "./docker-reference.ts";
import type { RequirementList, SignaturePolicy } from "./model.ts";

/** The image that a policy is asked about, as it was named: transports and scopes are matched on names. */
export type PolicySubject =
  | {
      readonly transport: "docker";
      /** `host[:port]/repo:tag` or `host[:port]/repo@digest`, with docker's defaults; tag and digest together: the digest. */
      readonly reference: string;
    }
  | {
      /** A layout or archive by its absolute path; such an image has no docker name. */
      readonly transport: "oci" | "oci-archive" | "dir";
      readonly path: string;
    };

/** Which requirements apply, and why. */
export interface ChosenRequirements {
  readonly requirements: RequirementList;
  /** `docker: example.com/app`, `docker: (every scope)`, `default`. */
  readonly scope: string;
}

/** The docker name of a subject, with the tag that docker would add; `undefined` where there is none. */
export function dockerReferenceOf(subject: PolicySubject): DockerReference | undefined {
  if (subject.transport !== "docker") return undefined;
  const parsed = parseDockerReference(subject.reference);
  if (parsed === undefined) {
    throw new SigningError("ERR_POLICY_SUBJECT", {
      message: `${JSON.stringify(subject.reference.slice(0, 300))} is not an image name that a policy can be asked about`,
      hint: "give host/repository:tag or host/repository@sha256:…",
    });
  }
  const { name, tag, digest } = parsed;
  return digest === undefined ? { name, tag: tag ?? "latest", digest } : { name, tag: undefined, digest };
}

/**
 * Chooses one set of requirements: the exact name, then the repository and each parent, then the host, then wildcards
 * of its domains, then the transport's own default, then the default. The most specific wins alone.
 * Source: containers/image signature/policy_eval.go; docker/policyconfiguration/naming.go.
 */
export function chooseRequirements(policy: SignaturePolicy, subject: PolicySubject): ChosenRequirements {
  const scopes = policy.transports.get(subject.transport);
  for (const scope of [...scopesOf(subject), ""]) {
    const requirements = scopes?.get(scope);
    if (requirements !== undefined) return { requirements, scope: `${subject.transport}: ${scope === "" ? "(every scope)" : scope}` };
  }
  return { requirements: policy.default, scope: "default" };
}

/** The scopes that a subject falls under, most specific first. */
export function scopesOf(subject: PolicySubject): readonly string[] {
  const reference = dockerReferenceOf(subject);
  if (reference !== undefined) return dockerScopes(reference);
  return subject.transport === "docker" ? [] : parentsOf(posix.normalize(subject.path));
}

function dockerScopes(reference: DockerReference): readonly string[] {
  const parents = parentsOf(reference.name);
  const host = (parents.at(-1) ?? "").replace(/:.*$/, "");
  const labels = host.split(".");
  const wildcards = labels.slice(1).map((_, i) => `*.${labels.slice(i + 1).join(".")}`);
  return [formatDockerReference(reference), ...parents, ...wildcards];
}

/** A slash-separated name and each of its parents, down to the first part. */
function parentsOf(name: string): readonly string[] {
  const names: string[] = [];
  for (let rest = name; rest !== "" && rest !== "/"; rest = rest.slice(0, Math.max(0, rest.lastIndexOf("/")))) names.push(rest);
  return names;
}

const pathTransports: ReadonlySet<string> = new Set(["oci", "oci-archive", "dir"]);
const scopelessTransports: ReadonlySet<string> = new Set(["docker-archive"]);

/** Why a scope can never match in a transport; `undefined` where it can, or where the transport checks nothing. */
export function scopeProblem(transport: string, scope: string): string | undefined {
  if (scopelessTransports.has(transport)) return 'is a scope, and this transport has none but ""';
  if (!pathTransports.has(transport)) return undefined;
  if (!scope.startsWith("/")) return "is not an absolute path";
  if (scope === "/") return 'is the root folder: use the scope ""';
  return posix.normalize(scope) === scope && !scope.endsWith("/") ? undefined : "is not a path in its shortest form";
}

const remapPrefix = new RegExp(`^(?:${domainPattern}|${namePattern})$`);

/** A host, or a repository or part of it beginning with the host. */
export function isRemapPrefix(text: string): boolean {
  return remapPrefix.test(text);
}
