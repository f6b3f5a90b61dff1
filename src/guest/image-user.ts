import { GuestError } from "./errors.ts";
import type { Tree } from "./tree.ts";

/** Who the container's process is. Source: OCI runtime-spec, config.md, "User". */
export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  /** Home directory, where the image's /etc/passwd knows one. */
  readonly home: string | undefined;
}

const maxDatabaseBytes = 8 * 1024 ** 2;
/** 2^32-1 means "no change" to setuid(2) and its like. */
const maxId = 2 ** 32 - 2;

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * Resolves `Config.User` (`user`, `uid`, `user:group`, with numbers or names) in the image's own files, opened inside the
 * root. Digits are always a number, never a name: a number too large must not become a lookup that ends at root
 * (CVE-2024-40635, CVE-2026-46680). With a group, supplementary groups are ignored; without, those of the user apply.
 * Source: OCI image-spec, config.md, "User"; conversion.md. Throws `ERR_GUEST_USER_UNKNOWN`.
 */
export function resolveUser(tree: Tree, user: string): ContainerUser {
  if (user.includes("\0") || user.includes("\n")) throw unknown(user, "it has a control character");
  const colon = user.indexOf(":");
  const userPart = colon < 0 ? user : user.slice(0, colon);
  const groupPart = colon < 0 ? undefined : user.slice(colon + 1);
  if (groupPart === "" || groupPart?.includes(":")) throw unknown(user, "it is not of the form user or user:group");
  const uid = userPart === "" ? 0 : number(userPart, user);
  const passwd = lines(tree, "etc/passwd").map(passwdEntry);
  const account = passwd.find((entry) => entry !== undefined && (uid === undefined ? entry.name === userPart : entry.uid === uid));
  if (uid === undefined && account === undefined)
    throw unknown(user, `the image's /etc/passwd has no user ${JSON.stringify(userPart.slice(0, 80))}`);
  const found = { uid: uid ?? account?.uid ?? 0, home: account?.home };
  const groups = lines(tree, "etc/group").map(groupEntry);
  if (groupPart !== undefined) {
    const gid = number(groupPart, user) ?? groups.find((group) => group?.name === groupPart)?.gid;
    if (gid === undefined) throw unknown(user, `the image's /etc/group has no group ${JSON.stringify(groupPart.slice(0, 80))}`);
    return { ...found, gid, additionalGids: [gid] };
  }
  const gid = account?.gid ?? 0;
  const supplementary = groups.flatMap((group) =>
    group !== undefined && account !== undefined && group.members.includes(account.name) ? [group.gid] : [],
  );
  // The primary group stands in the list too, or the process could drop a group that denies it access (CVE-2022-2989).
  return { ...found, gid, additionalGids: [...new Set([gid, ...supplementary])] };
}

function number(text: string, user: string): number | undefined {
  if (!/^[0-9]+$/.test(text)) return undefined;
  const value = Number(text);
  if (value > maxId) throw unknown(user, `an id is larger than ${maxId}`);
  return value;
}

function lines(tree: Tree, path: string): string[] {
  return (tree.readFile(path, maxDatabaseBytes)?.toString("utf8") ?? "").split("\n");
}

function id(text: string | undefined): number | undefined {
  const value = text !== undefined && /^[0-9]{1,10}$/.test(text) ? Number(text) : undefined;
  return value === undefined || value > maxId ? undefined : value;
}

/** passwd(5). A line that does not parse is nobody's. */
function passwdEntry(line: string): PasswdEntry | undefined {
  const [name = "", , uidText, gidText, , home = ""] = line.split(":");
  const uid = id(uidText);
  const gid = id(gidText);
  return name === "" || uid === undefined || gid === undefined ? undefined : { name, uid, gid, home };
}

/** group(5). */
function groupEntry(line: string): GroupEntry | undefined {
  const [name = "", , gidText, members = ""] = line.split(":");
  const gid = id(gidText);
  return name === "" || gid === undefined ? undefined : { name, gid, members: members.split(",").filter((member) => member !== "") };
}

function unknown(user: string, why: string): GuestError {
  return new GuestError("ERR_GUEST_USER_UNKNOWN", {
    message: `the image's user ${JSON.stringify(user.slice(0, 100))} cannot be resolved: ${why}`,
    hint: "set a user in the image configuration that its own /etc/passwd and /etc/group know, or a number",
  });
}
