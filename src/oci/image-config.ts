import { isDigest, parseJson, type Digest } from "../bytes/index.ts";
import { asObject, malformed } from "./descriptor.ts";
import { manifestLimits } from "./manifest.ts";

/** How a container of the image starts. Source: OCI image-spec, config.md, "config". */
export interface ExecutionConfig {
  readonly User?: string;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly ExposedPorts?: readonly string[];
  readonly Volumes?: readonly string[];
}

/** Source: OCI image-spec, config.md, "history". */
export interface HistoryEntry {
  readonly created?: string;
  readonly author?: string;
  readonly created_by?: string;
  readonly comment?: string;
  readonly empty_layer?: boolean;
}

/** An image configuration, of OCI or Docker. Members that are `null` (Docker writes them) count as absent. */
export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly "os.version"?: string;
  readonly created?: string;
  readonly author?: string;
  readonly config?: ExecutionConfig;
  /** `diff_ids` are the digests of the uncompressed, unencrypted layers, lowest first. */
  readonly rootfs: { readonly type: "layers"; readonly diff_ids: readonly Digest[] };
  readonly history?: readonly HistoryEntry[];
}

/**
 * Parses an image configuration whose bytes were verified. At most {@link manifestLimits} `maxBytes` and `maxLayers`.
 * Throws `ERR_MANIFEST_MALFORMED` or `ERR_JSON_MALFORMED`. Source: OCI image-spec, config.md.
 */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const object = asObject(parseJson(bytes, { maxBytes: manifestLimits.maxBytes, subject: "image configuration" }), "image configuration");
  const rootfs = asObject(object["rootfs"], "rootfs");
  if (rootfs["type"] !== "layers") throw malformed(`rootfs.type is ${JSON.stringify(rootfs["type"])?.slice(0, 40)}, not "layers"`);
  const execution = member(object, "config");
  const history = member(object, "history");
  return {
    architecture: text(object, "architecture", "") ?? missing("architecture"),
    os: text(object, "os", "") ?? missing("os"),
    ...texts(object, ["variant", "os.version", "created", "author"], ""),
    ...(execution === undefined ? {} : { config: parseExecution(asObject(execution, "config")) }),
    rootfs: { type: "layers", diff_ids: parseDiffIds(member(rootfs, "diff_ids") ?? []) },
    ...(history === undefined ? {} : { history: parseHistory(history) }),
  };
}

function parseExecution(object: Fields): ExecutionConfig {
  const labels = member(object, "Labels");
  return {
    ...texts(object, ["User", "WorkingDir", "StopSignal"], "config."),
    ...lists(object, ["Env", "Entrypoint", "Cmd"]),
    ...keys(object, ["ExposedPorts", "Volumes"]),
    ...(labels === undefined ? {} : { Labels: parseLabels(asObject(labels, "config.Labels")) }),
  };
}

function parseLabels(object: Fields): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(object)) {
    if (typeof value !== "string") throw malformed(`config.Labels[${JSON.stringify(name.slice(0, 80))}] is not text`);
  }
  return object as Readonly<Record<string, string>>;
}

function parseDiffIds(value: unknown): readonly Digest[] {
  if (!Array.isArray(value)) throw malformed("rootfs.diff_ids is not a list");
  if (value.length > manifestLimits.maxLayers) throw malformed(`rootfs.diff_ids has ${value.length} entries, more than the limit`);
  return value.map((item: unknown, i) => {
    if (typeof item !== "string" || !isDigest(item)) throw malformed(`rootfs.diff_ids[${i}] is not a digest`);
    return item;
  });
}

function parseHistory(value: unknown): readonly HistoryEntry[] {
  if (!Array.isArray(value)) throw malformed("history is not a list");
  return value.map((item: unknown, i) => {
    const object = asObject(item, `history[${i}]`);
    const empty = member(object, "empty_layer");
    if (empty !== undefined && typeof empty !== "boolean") throw malformed(`history[${i}].empty_layer is neither true nor false`);
    return {
      ...texts(object, ["created", "author", "created_by", "comment"], `history[${i}].`),
      ...(empty === undefined ? {} : { empty_layer: empty }),
    };
  });
}

type Fields = Readonly<Record<string, unknown>>;

function member(object: Fields, name: string): unknown {
  return object[name] ?? undefined;
}

function text(object: Fields, name: string, where: string): string | undefined {
  const value = member(object, name);
  if (value !== undefined && typeof value !== "string") throw malformed(`${where}${name} is not text`);
  return value;
}

function texts<Name extends string>(object: Fields, names: readonly Name[], where: string): { readonly [K in Name]?: string } {
  const found = names.flatMap((name) => {
    const value = text(object, name, where);
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(found) as { readonly [K in Name]?: string };
}

function lists<Name extends string>(object: Fields, names: readonly Name[]): { readonly [K in Name]?: readonly string[] } {
  const found = names.flatMap((name) => {
    const value = member(object, name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw malformed(`config.${name} is not a list`);
    const items = value.map((item: unknown) => (typeof item === "string" ? item : badItem(name)));
    return [[name, items] as const];
  });
  return Object.fromEntries(found) as unknown as { readonly [K in Name]?: readonly string[] };
}

/** ExposedPorts and Volumes are sets, written as objects with empty members (config.md). */
function keys<Name extends string>(object: Fields, names: readonly Name[]): { readonly [K in Name]?: readonly string[] } {
  const found = names.flatMap((name) => {
    const value = member(object, name);
    return value === undefined ? [] : [[name, Object.keys(asObject(value, `config.${name}`))] as const];
  });
  return Object.fromEntries(found) as unknown as { readonly [K in Name]?: readonly string[] };
}

function badItem(name: string): never {
  throw malformed(`config.${name} is not a list of texts`);
}

function missing(name: string): never {
  throw malformed(`${name} is missing`);
}
