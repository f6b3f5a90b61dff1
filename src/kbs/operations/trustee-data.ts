import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { parseResourcePath } from "../protocol/resource-path.ts";
import { isObject } from "../protocol/shape.ts";
import type { KbsAdmin } from "../client/admin-client.ts";

/** One thing that a Trustee data directory holds. */
export type TrusteeItem =
  | { readonly kind: "resource"; readonly path: string; readonly value: Buffer }
  | { readonly kind: "release-policy" | "appraisal-policy"; readonly id: string; readonly text: string }
  | { readonly kind: "reference-value"; readonly name: string; readonly value: unknown; readonly expiresAt: Date | undefined }
  | { readonly kind: "skipped"; readonly name: string; readonly reason: string };

/** How an import went. */
export interface ImportReport {
  readonly imported: number;
  readonly present: number;
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
}

const maxFileBytes = 4 << 20;
/** How Trustee's file store writes a slash in a name. Source: Trustee, key-value storage, local_fs. */
const escapedSlash = "\\x2F";
const namespaces = ["repository", "kbs", "attestation_service_policy", "reference_value"] as const;

/**
 * Reads the data of a Trustee server: its file store since 0.18 (one folder per namespace), its JSON store (one file per
 * namespace), and the older layout `repository/type/tag`, alone or in a folder `repository`. Source: Trustee,
 * deps/key-value-storage; read from folders that Trustee 0.21 wrote.
 */
export async function* readTrusteeData(directory: string): AsyncGenerator<TrusteeItem> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((cause: unknown) => {
    throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: `the folder ${directory} cannot be read: ${describeCause(cause)}`, cause });
  });
  const stores = namespaces.flatMap((namespace) => {
    const entry = entries.find(({ name }) => name === namespace);
    return entry === undefined ? [] : [{ namespace, place: join(directory, namespace), isFile: entry.isFile() }];
  });
  if (stores.length === 0) yield* readOldLayout(directory);
  for (const { namespace, place, isFile } of stores) {
    if (isFile) {
      for (const [key, value] of Object.entries(await readJsonStore(place))) yield itemOf(namespace, key, value);
      continue;
    }
    for (const file of await readdir(place, { withFileTypes: true })) {
      if (file.isFile()) yield itemOf(namespace, file.name.replaceAll(escapedSlash, "/"), await readBounded(join(place, file.name)));
      else if (namespace === "repository") yield* readOldLayout(join(place, file.name), `${file.name}/`);
      else yield { kind: "skipped", name: `${namespace}/${file.name}`, reason: "a folder where Trustee keeps files" };
    }
  }
}

/** Imports through an administrator, so that everything is checked and audited. What is there already stays as it is. */
export async function importTrusteeData(
  directory: string,
  admin: KbsAdmin,
  observe: (item: TrusteeItem) => void = () => undefined,
): Promise<ImportReport> {
  let imported = 0;
  let present = 0;
  const skipped: { name: string; reason: string }[] = [];
  for await (const item of readTrusteeData(directory)) {
    observe(item);
    switch (item.kind) {
      case "resource":
        if ((await admin.putResource(`kbs:///${item.path}`, item.value, { condition: "absent" })) === "stored") imported += 1;
        else present += 1;
        break;
      case "release-policy":
      case "appraisal-policy":
        try {
          await (item.kind === "release-policy" ? admin.policies : admin.attestationPolicies).put({
            id: item.id,
            language: "rego",
            text: item.text,
          });
          imported += 1;
        } catch (cause) {
          // A policy that is not understood must not stop the keys; it is named, and the default denies meanwhile.
          if (!(cause instanceof KbsError) || cause.code !== "ERR_KBS_REQUEST_REFUSED") throw cause;
          skipped.push({ name: item.id, reason: cause.message });
        }
        break;
      case "reference-value":
        await admin.references.set({ [item.name]: item.value }, { expiresAt: item.expiresAt });
        imported += 1;
        break;
      case "skipped":
        skipped.push({ name: item.name, reason: item.reason });
        break;
    }
  }
  return { imported, present, skipped };
}

function itemOf(namespace: (typeof namespaces)[number], key: string, value: Buffer): TrusteeItem {
  switch (namespace) {
    case "repository":
      return resourceItem(key, value);
    case "kbs":
      return key.startsWith("resource-policy")
        ? { kind: "release-policy", id: "resource-policy", text: value.toString("utf8") }
        : { kind: "skipped", name: `kbs/${key}`, reason: "not a policy" };
    case "attestation_service_policy":
      return { kind: "appraisal-policy", id: key.replace(/\.rego$/, ""), text: value.toString("utf8") };
    case "reference_value":
      return referenceItem(key, value);
  }
}

function resourceItem(path: string, value: Buffer): TrusteeItem {
  try {
    parseResourcePath(path);
    return { kind: "resource", path, value };
  } catch (cause) {
    return { kind: "skipped", name: path.slice(0, 200), reason: describeCause(cause) };
  }
}

/** `{version, name, expiration, value}`. */
function referenceItem(key: string, bytes: Buffer): TrusteeItem {
  try {
    const stored = parseJson(bytes, { maxBytes: maxFileBytes, subject: "a reference value" });
    if (!isObject(stored) || !Object.hasOwn(stored, "value")) return { kind: "skipped", name: key, reason: "no reference value" };
    const expiration = typeof stored["expiration"] === "string" ? new Date(stored["expiration"]) : undefined;
    const expiresAt = expiration === undefined || Number.isNaN(expiration.getTime()) ? undefined : expiration;
    return { kind: "reference-value", name: typeof stored["name"] === "string" ? stored["name"] : key, value: stored["value"], expiresAt };
  } catch (cause) {
    return { kind: "skipped", name: key, reason: describeCause(cause) };
  }
}

async function* readOldLayout(directory: string, prefix = ""): AsyncGenerator<TrusteeItem> {
  for (const path of await readdir(directory, { recursive: true })) {
    const file = join(directory, path);
    if (!(await stat(file)).isFile()) continue;
    yield resourceItem(`${prefix}${path.split(/[\\/]/).join("/")}`, await readBounded(file));
  }
}

/** One file per namespace, named as it is: `{key: base64url}`, padded. */
async function readJsonStore(file: string): Promise<Readonly<Record<string, Buffer>>> {
  const value = parseJson(await readBounded(file, 256 << 20), { maxBytes: 256 << 20, maxDepth: 3, subject: file });
  if (!isObject(value)) throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: `${file} is not a store of Trustee` });
  return Object.fromEntries(Object.entries(value).map(([key, text]) => [key, Buffer.from(String(text), "base64url")]));
}

async function readBounded(file: string, maxBytes = maxFileBytes): Promise<Buffer> {
  const { size } = await stat(file);
  if (size > maxBytes) throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: `${file} has ${size} bytes, more than ${maxBytes}` });
  return readFile(file);
}
