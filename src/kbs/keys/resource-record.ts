import { decodeBase64 } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { parseOwnJson } from "../protocol/own-json.ts";
import { isObject } from "../protocol/shape.ts";

/** `enabled` is released, `disabled` is kept but not released, `destroyed` has no value any more. */
export type VersionState = "enabled" | "disabled" | "destroyed";

/** One version of a resource, without its value. */
export interface VersionInfo {
  /** From 1, without gaps. */
  readonly version: number;
  readonly state: VersionState;
  /** RFC 3339. */
  readonly createdAt: string;
  /** Subject of the token that made it. */
  readonly createdBy: string;
  /** Bytes of the value. */
  readonly size: number;
}

/** A resource without its values. */
export interface ResourceInfo {
  readonly path: string;
  /** A `key` was made here and is rotated here; a `secret` was put. */
  readonly kind: "secret" | "key";
  readonly createdAt: string;
  readonly createdBy: string;
  /** The newest version: what new image layers are wrapped under. */
  readonly current: number;
  /**
   * The version that the plain name releases; the others are `name.vN`. A put moves it to the new version; a rotation
   * leaves it, for images in the field name the key they were wrapped under.
   */
  readonly released: number;
  readonly versions: readonly VersionInfo[];
  /** Days after which a key should be rotated. */
  readonly rotationDays?: number | undefined;
}

/** Where the value of a version is: in the record itself, or in a record of its own when it is big. */
export type StoredValue = { readonly inline: Buffer } | { readonly record: string } | undefined;

export interface StoredVersion extends VersionInfo {
  readonly value: StoredValue;
}

export interface ResourceDocument extends Omit<ResourceInfo, "versions"> {
  readonly versions: readonly StoredVersion[];
}

const format = "ociseal-kbs-resource/1";

/** The plaintext of a resource's record. */
export function serializeResource(document: ResourceDocument): Buffer {
  const versions = document.versions.map(({ value, ...info }) => ({ ...info, value: jsonOfValue(value) }));
  return Buffer.from(JSON.stringify({ format, ...document, versions }), "utf8");
}

function jsonOfValue(value: StoredValue): unknown {
  if (value === undefined) return undefined;
  return "inline" in value ? { inline: value.inline.toString("base64") } : value;
}

/** Parses the plaintext of a resource's record. Throws `ERR_KBS_RECORD_CORRUPT`: it was authentic, so this is a foreign format. */
export function parseResource(bytes: Buffer, path: string): ResourceDocument {
  const value = parseOwnJson(bytes);
  if (!isObject(value) || value["format"] !== format || value["path"] !== path || !Array.isArray(value["versions"])) throw foreign(path);
  const { kind, createdAt, createdBy, current, released, rotationDays } = value;
  if ((kind !== "secret" && kind !== "key") || typeof createdAt !== "string" || typeof createdBy !== "string") throw foreign(path);
  if (typeof current !== "number" || typeof released !== "number") throw foreign(path);
  const versions = value["versions"].map((version: unknown) => parseVersion(version, path));
  return { path, kind, createdAt, createdBy, current, released, versions, ...(typeof rotationDays === "number" ? { rotationDays } : {}) };
}

function parseVersion(value: unknown, path: string): StoredVersion {
  if (!isObject(value)) throw foreign(path);
  const { version, state, createdAt, createdBy, size } = value;
  if (typeof version !== "number" || typeof createdAt !== "string" || typeof createdBy !== "string" || typeof size !== "number")
    throw foreign(path);
  if (state !== "enabled" && state !== "disabled" && state !== "destroyed") throw foreign(path);
  return { version, state, createdAt, createdBy, size, value: parseValue(value["value"], path) };
}

function parseValue(value: unknown, path: string): StoredValue {
  if (value === undefined) return undefined;
  if (isObject(value) && typeof value["inline"] === "string") return { inline: decodeBase64(value["inline"]) };
  if (isObject(value) && typeof value["record"] === "string") return { record: value["record"] };
  throw foreign(path);
}

/** The part of a resource that may be shown. */
export function infoOf(document: ResourceDocument): ResourceInfo {
  return { ...document, versions: document.versions.map(({ value: _value, ...info }) => info) };
}

function foreign(path: string): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the record of ${path} has a format that this version does not know` });
}
