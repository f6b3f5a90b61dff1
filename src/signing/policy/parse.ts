import { parseJson } from "../../bytes/index.ts";
import { parseDockerReference, isNameOnly } from "./docker-reference.ts";
import {
  at,
  atIndex,
  invalidPolicy,
  membersAt,
  objectAt,
  optionalTextAt,
  presentOf,
  textAt,
  textsAt,
  type Members,
  type Place,
} from "./members.ts";
import type { Material, PolicyItem, PolicyTrust, RequirementList, SignaturePolicy, SignedIdentity, SigstoreSigned } from "./model.ts";
import { isRemapPrefix, scopeProblem } from "./scopes.ts";

export interface PolicySource {
  readonly bytes: Uint8Array | string;
  /** The file's name, for messages. */
  readonly source: string;
}

const maxPolicyBytes = 1024 * 1024;

/**
 * Parses a containers-policy.json as strictly as skopeo: an unknown, repeated or missing member, an empty list or an
 * unknown type makes the whole file invalid. One deviation, which cannot weaken: `keyData` may be PEM text, as image-rs
 * reads it. Throws `ERR_POLICY_MALFORMED`, naming the member.
 */
export function parsePolicy({ bytes, source }: PolicySource): SignaturePolicy {
  const root: Place = { source, path: "" };
  let document: unknown;
  try {
    document = parseJson(bytes, { maxBytes: maxPolicyBytes, subject: source });
  } catch (cause) {
    throw invalidPolicy(root, "is not readable", cause);
  }
  const top = membersAt(document, root, ["default", "transports"]);
  const transports = Object.hasOwn(top, "transports") ? objectAt(top["transports"], at(root, "transports")) : {};
  return {
    source,
    default: requirementsAt(top["default"], at(root, "default")),
    transports: new Map(
      Object.entries(transports).map(([name, scopes]) => [name, scopesAt(scopes, name, at(at(root, "transports"), name))]),
    ),
  };
}

function scopesAt(value: unknown, transport: string, place: Place): ReadonlyMap<string, RequirementList> {
  return new Map(
    Object.entries(objectAt(value, place)).map(([scope, list]) => {
      const problem = scope === "" ? undefined : scopeProblem(transport, scope);
      if (problem !== undefined) throw invalidPolicy(at(place, scope), problem);
      return [scope, requirementsAt(list, at(place, scope))];
    }),
  );
}

function requirementsAt(value: unknown, place: Place): RequirementList {
  if (value === undefined) throw invalidPolicy(place, "is missing");
  if (!Array.isArray(value)) throw invalidPolicy(place, "is not a list");
  const [first, ...more] = value.map((item: unknown, i) => requirementAt(item, atIndex(place, i)));
  if (first === undefined) throw invalidPolicy(place, "is an empty list of requirements");
  return [first, ...more];
}

const requirementTypes: Readonly<Record<string, (value: unknown, place: Place) => PolicyItem>> = {
  insecureAcceptAnything: (value, place) => (membersAt(value, place, ["type"]), { kind: "insecureAcceptAnything" }),
  reject: (value, place) => (membersAt(value, place, ["type"]), { kind: "reject" }),
  signedBy: signedByAt,
  signedBaseLayer: signedBaseLayerAt,
  sigstoreSigned: sigstoreSignedAt,
};

function requirementAt(value: unknown, place: Place): PolicyItem {
  const type = textAt(objectAt(value, place), "type", place);
  const parse = Object.hasOwn(requirementTypes, type) ? requirementTypes[type] : undefined;
  if (parse === undefined)
    throw invalidPolicy(at(place, "type"), `is unknown (expected one of ${Object.keys(requirementTypes).join(", ")})`);
  return parse(value, place);
}

const gpgKeyTypes = ["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"];

function signedByAt(value: unknown, place: Place): PolicyItem {
  const members = membersAt(value, place, ["type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"]);
  const keyType = textAt(members, "keyType", place);
  if (!gpgKeyTypes.includes(keyType)) throw invalidPolicy(at(place, "keyType"), `is unknown (expected one of ${gpgKeyTypes.join(", ")})`);
  const source = exactlyOne(members, ["keyPath", "keyPaths", "keyData"], place);
  if (source === "keyPaths") textsAt(members, source, place);
  else textAt(members, source, place);
  if (source === "keyData") base64At(textAt(members, source, place), at(place, source));
  signedIdentityAt(members, place);
  return { kind: "signedBy" };
}

function signedBaseLayerAt(value: unknown, place: Place): PolicyItem {
  const members = membersAt(value, place, ["type", "baseLayerIdentity"]);
  identityAt(members["baseLayerIdentity"], at(place, "baseLayerIdentity"));
  return { kind: "signedBaseLayer" };
}

const trustMembers = ["keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki"];
const rekorMembers = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];

function sigstoreSignedAt(value: unknown, place: Place): SigstoreSigned {
  const members = membersAt(value, place, ["type", ...trustMembers, ...rekorMembers, "signedIdentity"]);
  const trust = trustAt(members, exactlyOne(members, trustMembers, place), place);
  const rekor = presentOf(members, rekorMembers);
  const [rekorMember] = rekor;
  if (rekor.length > 1) throw invalidPolicy(place, `has more than one of ${rekorMembers.join(", ")}`);
  if (trust.kind === "fulcio" && rekor.length === 0) throw invalidPolicy(place, `has fulcio and none of ${rekorMembers.join(", ")}`);
  if (trust.kind === "pki" && rekor.length > 0) throw invalidPolicy(place, `has pki together with ${rekor.join(", ")}`);
  return {
    kind: "sigstoreSigned",
    trust,
    rekorKeys: rekorMember === undefined ? [] : materialsAt(members, rekorMember, place),
    signedIdentity: signedIdentityAt(members, place),
    members: Object.keys(members),
  };
}

function trustAt(members: Members, member: string, place: Place): PolicyTrust {
  switch (member) {
    case "fulcio":
      return fulcioAt(members[member], at(place, member));
    case "pki":
      return pkiAt(members[member], at(place, member));
    default:
      return { kind: "keys", keys: materialsAt(members, member, place) };
  }
}

function fulcioAt(value: unknown, place: Place): PolicyTrust {
  const members = membersAt(value, place, ["caPath", "caData", "oidcIssuer", "subjectEmail"]);
  return {
    kind: "fulcio",
    ca: materialAt(members, exactlyOne(members, ["caPath", "caData"], place), place),
    oidcIssuer: textAt(members, "oidcIssuer", place),
    subjectEmail: textAt(members, "subjectEmail", place),
  };
}

function pkiAt(value: unknown, place: Place): PolicyTrust {
  const known = ["caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData", "subjectEmail", "subjectHostname"];
  const members = membersAt(value, place, known);
  const intermediates = presentOf(members, ["caIntermediatesPath", "caIntermediatesData"]);
  const [intermediate] = intermediates;
  if (intermediates.length > 1) throw invalidPolicy(place, `has more than one of ${intermediates.join(", ")}`);
  const subjectEmail = optionalTextAt(members, "subjectEmail", place);
  const subjectHostname = optionalTextAt(members, "subjectHostname", place);
  if (subjectEmail === undefined && subjectHostname === undefined)
    throw invalidPolicy(place, "has neither subjectEmail nor subjectHostname");
  return {
    kind: "pki",
    roots: materialAt(members, exactlyOne(members, ["caRootsPath", "caRootsData"], place), place),
    intermediates: intermediate === undefined ? undefined : materialAt(members, intermediate, place),
    subjectEmail,
    subjectHostname,
  };
}

function exactlyOne(members: Members, names: readonly string[], place: Place): string {
  const [name, ...more] = presentOf(members, names);
  if (name === undefined || more.length > 0) throw invalidPolicy(place, `must have exactly one of ${names.join(", ")}`);
  return name;
}

/** One material, or a list of them where the member's name is a plural. */
function materialsAt(members: Members, member: string, place: Place): readonly Material[] {
  if (!member.endsWith("s")) return [materialAt(members, member, place)];
  return textsAt(members, member, place).map((text, i) => materialOf(text, member, atIndex(at(place, member), i)));
}

function materialAt(members: Members, member: string, place: Place): Material {
  return materialOf(textAt(members, member, place), member, at(place, member));
}

function materialOf(text: string, member: string, place: Place): Material {
  if (/Paths?$/.test(member)) return { kind: "path", path: text, member: place.path };
  if (text.startsWith("-----BEGIN ")) return { kind: "data", bytes: Buffer.from(text, "utf8"), member: place.path, form: "pem" };
  return { kind: "data", bytes: base64At(text, place), member: place.path, form: "base64" };
}

/** Base64 as Go decodes it: standard alphabet, padded, line breaks passed over. */
function base64At(text: string, place: Place): Buffer {
  const compact = text.replace(/[\r\n]/g, "");
  const bytes = Buffer.from(compact, "base64");
  if (bytes.toString("base64") !== compact) throw invalidPolicy(place, "is not base64");
  return bytes;
}

function signedIdentityAt(members: Members, place: Place): SignedIdentity {
  if (!Object.hasOwn(members, "signedIdentity")) return { kind: "matchRepoDigestOrExact" };
  return identityAt(members["signedIdentity"], at(place, "signedIdentity"));
}

function identityAt(value: unknown, place: Place): SignedIdentity {
  const type = textAt(objectAt(value, place), "type", place);
  switch (type) {
    case "matchExact":
    case "matchRepoDigestOrExact":
    case "matchRepository":
      membersAt(value, place, ["type"]);
      return { kind: type };
    case "exactReference": {
      const dockerReference = textAt(membersAt(value, place, ["type", "dockerReference"]), "dockerReference", place);
      const parsed = parseDockerReference(dockerReference);
      if (parsed === undefined || isNameOnly(parsed))
        throw invalidPolicy(at(place, "dockerReference"), "is not an image name with a tag or digest");
      return { kind: type, dockerReference };
    }
    case "exactRepository": {
      const dockerRepository = textAt(membersAt(value, place, ["type", "dockerRepository"]), "dockerRepository", place);
      if (parseDockerReference(dockerRepository) === undefined)
        throw invalidPolicy(at(place, "dockerRepository"), "is not the name of a repository");
      return { kind: type, dockerRepository };
    }
    case "remapIdentity": {
      const members = membersAt(value, place, ["type", "prefix", "signedPrefix"]);
      for (const name of ["prefix", "signedPrefix"]) {
        if (!isRemapPrefix(textAt(members, name, place))) throw invalidPolicy(at(place, name), "is not a host or the name of a repository");
      }
      return { kind: type, prefix: textAt(members, "prefix", place), signedPrefix: textAt(members, "signedPrefix", place) };
    }
    default:
      throw invalidPolicy(at(place, "type"), "is unknown");
  }
}
