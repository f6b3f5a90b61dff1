import { describeCause } from "../../errors/index.ts";
import { parseJson } from "../../bytes/index.ts";
import type { PolicyRemark } from "./remark.ts";

/**
 * How image-rs, the puller inside Confidential Containers guests, reads a policy. It knows fewer members and passes over
 * the others; so a file can be stricter for skopeo than for the guest.
 * Source: confidential-containers/guest-components image-rs/src/signature.
 */
export function readAsImageRs(bytes: Uint8Array | string): {
  readonly verdict: "valid" | "invalid";
  readonly remarks: readonly PolicyRemark[];
} {
  const remarks: PolicyRemark[] = [];
  const say = (effect: PolicyRemark["effect"], where: string, message: string): void =>
    void remarks.push({ reader: "image-rs", effect, where, message });
  let document: unknown;
  try {
    document = parseJson(bytes, { maxBytes: 1024 * 1024, subject: "policy" });
  } catch (error) {
    say("refuses", "", describeCause(error));
    return { verdict: "invalid", remarks };
  }
  const top = objectOf(document);
  const { transports } = top;
  if (transports === undefined) say("refuses", "transports", "image-rs demands the member transports, also when it is empty");
  readList(top["default"], "default", say);
  for (const [transport, scopes] of Object.entries(objectOf(transports))) {
    for (const [scope, list] of Object.entries(objectOf(scopes))) readList(list, `transports.${transport}[${JSON.stringify(scope)}]`, say);
  }
  for (const name of Object.keys(top))
    if (name !== "default" && name !== "transports") say("weaker", name, "image-rs passes over this member");
  return { verdict: remarks.some(({ effect }) => effect === "refuses") ? "invalid" : "valid", remarks };
}

type Say = (effect: PolicyRemark["effect"], where: string, message: string) => void;

function readList(list: unknown, where: string, say: Say): void {
  if (!Array.isArray(list)) return say("refuses", where, "image-rs demands a list");
  if (list.length === 0) return say("weaker", where, "image-rs allows every image where the list is empty");
  list.forEach((item: unknown, i) => readItem(objectOf(item), `${where}[${i}]`, say));
}

function readItem(item: Readonly<Record<string, unknown>>, where: string, say: Say): void {
  switch (item["type"]) {
    case "insecureAcceptAnything":
    case "reject":
    case "signedBy":
      return;
    case "sigstoreSigned":
      return readSigstoreSigned(item, where, say);
    default:
      return say("refuses", `${where}.type`, "image-rs does not know this type");
  }
}

const otherTrust = ["keyPaths", "keyDatas", "fulcio", "pki"];
const logMembers = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];
const knownMembers = new Set(["type", "keyPath", "keyData", "signedIdentity", ...otherTrust, ...logMembers]);

function readSigstoreSigned(item: Readonly<Record<string, unknown>>, where: string, say: Say): void {
  for (const name of otherTrust.filter((member) => member in item)) {
    say(
      "stricter",
      `${where}.${name}`,
      "image-rs does not know this member, finds no key and pulls nothing of this scope; write one keyPath",
    );
  }
  for (const name of logMembers.filter((member) => member in item)) {
    say("weaker", `${where}.${name}`, "image-rs passes over this member: it does not ask whether a log has seen the signature");
  }
  for (const name of Object.keys(item).filter((member) => !knownMembers.has(member)))
    say("weaker", `${where}.${name}`, "image-rs passes over this member");
  const { keyData, signedIdentity } = item;
  if (typeof keyData === "string" && !keyData.startsWith("-----BEGIN ")) {
    say(
      "stricter",
      `${where}.keyData`,
      "image-rs takes the text itself for PEM and does not decode base64: it pulls nothing of this scope; use keyPath",
    );
  }
  if (signedIdentity === undefined) {
    say(
      "weaker",
      `${where}.signedIdentity`,
      "image-rs checks no repository where signedIdentity is missing: a signature of any repository passes; write matchRepository",
    );
  } else {
    const type = objectOf(signedIdentity)["type"];
    if (type !== "matchRepository" && type !== "exactRepository") {
      say(
        "stricter",
        `${where}.signedIdentity`,
        `image-rs knows matchRepository and exactRepository only, and refuses every image under ${JSON.stringify(type)?.slice(0, 60) ?? "this"}`,
      );
    }
  }
  say(
    "stricter",
    where,
    "image-rs demands that all signatures under the .sig tag satisfy this requirement, not one: a second signer makes the pull fail",
  );
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {};
}
