import { describeCause } from "../../errors/index.ts";
import { SigningError } from "../errors.ts";
import { parseDockerReference } from "./docker-reference.ts";
import { readAsImageRs } from "./image-rs.ts";
import type { Material, PolicyItem, RequirementList, SignaturePolicy, SigstoreSigned } from "./model.ts";
import { parsePolicy, type PolicySource } from "./parse.ts";
import { usesAttachmentsIn, type RegistriesD } from "./registries-d.ts";
import type { PolicyReader, PolicyRemark } from "./remark.ts";

/** What every reader makes of a policy file. Plain JSON values. */
export interface PolicyCheck {
  readonly source: string;
  readonly verdicts: Readonly<Record<PolicyReader, "valid" | "invalid">>;
  readonly remarks: readonly PolicyRemark[];
}

export interface PolicyCheckRequest extends PolicySource {
  /** What registries.d says; without it nothing is said about it. */
  readonly registriesD?: RegistriesD | undefined;
}

/**
 * Parses a policy as each of its readers does and says where they differ. Never throws over the file itself; a file
 * that is invalid for a reader is a verdict.
 */
export function checkPolicy({ registriesD, ...source }: PolicyCheckRequest): PolicyCheck {
  const remarks: PolicyRemark[] = [];
  let policy: SignaturePolicy | undefined;
  try {
    policy = parsePolicy(source);
  } catch (error) {
    if (!(error instanceof SigningError)) throw error;
    for (const reader of ["ociseal", "skopeo", "skopeo-1.9"] as const)
      remarks.push({ reader, effect: "refuses", where: "", message: describeCause(error) });
  }
  if (policy !== undefined) remarks.push(...remarksOn(policy, registriesD));
  const imageRs = readAsImageRs(source.bytes);
  remarks.push(...imageRs.remarks);
  const verdictOf = (reader: PolicyReader): "valid" | "invalid" =>
    remarks.some((remark) => remark.reader === reader && remark.effect === "refuses") ? "invalid" : "valid";
  return {
    source: source.source,
    verdicts: {
      ociseal: verdictOf("ociseal"),
      skopeo: verdictOf("skopeo"),
      "skopeo-1.9": verdictOf("skopeo-1.9"),
      "image-rs": imageRs.verdict,
    },
    remarks,
  };
}

function remarksOn(policy: SignaturePolicy, registriesD: RegistriesD | undefined): readonly PolicyRemark[] {
  const remarks = remarksOnList(policy.default, "default", "", registriesD);
  for (const [transport, scopes] of policy.transports) {
    for (const [scope, list] of scopes) {
      const where = `transports.${transport}[${JSON.stringify(scope)}]`;
      remarks.push(
        ...remarksOnScope(transport, scope, where),
        ...remarksOnList(list, where, transport === "docker" ? scope : undefined, registriesD),
      );
    }
  }
  return remarks;
}

function remarksOnScope(transport: string, scope: string, where: string): readonly PolicyRemark[] {
  if (transport !== "docker" || scope === "" || scope.startsWith("*.") || isReachable(scope)) return [];
  return (["ociseal", "skopeo"] as const).map((reader) => ({
    reader,
    effect: "weaker",
    where,
    message: "no image ever falls under this scope: names are looked up in full, as docker.io/library/busybox or example.com/app",
  }));
}

/** Whether an image's full name, or a parent of one, can be this scope. */
function isReachable(scope: string): boolean {
  const [first = ""] = scope.split("/");
  const isHost = /[.:]/.test(first.replace(/@.*$/, "")) || first === "localhost" || first !== first.toLowerCase();
  if (!scope.includes("/")) return isHost;
  return isHost && first !== "index.docker.io" && parseDockerReference(scope) !== undefined;
}

function remarksOnList(
  list: RequirementList,
  where: string,
  scope: string | undefined,
  registriesD: RegistriesD | undefined,
): PolicyRemark[] {
  return list.flatMap((item, i) => remarksOnItem(item, `${where}[${i}]`, scope, registriesD));
}

function remarksOnItem(
  item: PolicyItem,
  where: string,
  scope: string | undefined,
  registriesD: RegistriesD | undefined,
): readonly PolicyRemark[] {
  switch (item.kind) {
    case "reject":
      return [];
    case "insecureAcceptAnything":
      return where.startsWith("default")
        ? [{ reader: "ociseal", effect: "note", where, message: "every image that no scope names is allowed unsigned" }]
        : [];
    case "signedBy":
      return [
        { reader: "ociseal", effect: "stricter", where, message: "GnuPG signatures are not supported: nothing of this scope is allowed" },
      ];
    case "signedBaseLayer":
      return (["ociseal", "skopeo"] as const).map((reader) => ({
        reader,
        effect: "stricter",
        where,
        message: "no tool supports it: nothing of this scope is allowed",
      }));
    case "sigstoreSigned":
      return [...remarksOnMembers(item, where), ...remarksOnIdentity(item, where), ...remarksOnAttachments(where, scope, registriesD)];
  }
}

/** Members that containers/image learnt later. Measured: skopeo 1.9 (5.21) calls them unknown, 1.18 (5.34) knows them all. */
const youngMembers = [
  "keyPaths",
  "keyDatas",
  "fulcio",
  "pki",
  "rekorPublicKeyPath",
  "rekorPublicKeyPaths",
  "rekorPublicKeyData",
  "rekorPublicKeyDatas",
];

function remarksOnMembers({ members, trust, rekorKeys }: SigstoreSigned, where: string): readonly PolicyRemark[] {
  const young = members
    .filter((member) => youngMembers.includes(member))
    .map((member): PolicyRemark => ({
      reader: "skopeo-1.9",
      effect: "refuses",
      where: `${where}.${member}`,
      message: "skopeo 1.9 (Debian 12) and others of its age do not know this member and refuse the whole file",
    }));
  const keys =
    trust.kind === "keys"
      ? trust.keys
      : trust.kind === "fulcio"
        ? [trust.ca]
        : [trust.roots, ...(trust.intermediates === undefined ? [] : [trust.intermediates])];
  return [...young, ...[...keys, ...rekorKeys].flatMap(remarksOnMaterial)];
}

function remarksOnMaterial(material: Material): readonly PolicyRemark[] {
  if (material.kind === "data") {
    if (material.form === "base64") return [];
    return (["skopeo", "skopeo-1.9"] as const).map((reader) => ({
      reader,
      effect: "refuses",
      where: material.member,
      message: "skopeo wants base64 of the PEM text here and refuses the whole file; image-rs wants the PEM text. Use keyPath for both",
    }));
  }
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(material.path)) return [];
  return (["skopeo", "skopeo-1.9"] as const).map((reader) => ({
    reader,
    effect: "stricter",
    where: material.member,
    message: "skopeo takes this for the name of a local file, does not find it and allows nothing that needs it",
  }));
}

function remarksOnIdentity({ signedIdentity }: SigstoreSigned, where: string): readonly PolicyRemark[] {
  if (signedIdentity.kind === "matchRepository" || signedIdentity.kind === "exactRepository") return [];
  return [
    {
      reader: "skopeo",
      effect: "note",
      where: `${where}.signedIdentity`,
      message: `cosign and ociseal sign the bare repository, which ${signedIdentity.kind} never accepts; it accepts what skopeo and podman sign. Write matchRepository for both`,
    },
  ];
}

function remarksOnAttachments(where: string, scope: string | undefined, registriesD: RegistriesD | undefined): readonly PolicyRemark[] {
  if (scope === undefined || registriesD === undefined || usesAttachmentsIn(registriesD, scopeAndParents(scope))) return [];
  return [
    {
      reader: "skopeo",
      effect: "stricter",
      where,
      message: `registries.d does not set use-sigstore-attachments for ${scope === "" ? "every registry" : scope}: skopeo and podman find no signature and allow nothing of this scope`,
    },
  ];
}

/** A scope, and the wider ones under which registries.d may speak of it. */
function scopeAndParents(scope: string): readonly string[] {
  const scopes: string[] = [];
  for (let rest = scope.replace(/@.*$/, ""); rest !== ""; rest = rest.includes("/") ? rest.slice(0, rest.lastIndexOf("/")) : "") {
    scopes.push(rest, rest.replace(/:[^/:]*$/, ""));
  }
  const host = (scope.split("/")[0] ?? "").replace(/:.*$/, "");
  const labels = host.split(".");
  return [...scopes, ...labels.slice(1).map((_, i) => `*.${labels.slice(i + 1).join(".")}`)];
}
