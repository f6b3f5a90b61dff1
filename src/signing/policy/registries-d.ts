import { SigningError } from "../errors.ts";
import { scopesOf, type PolicySubject } from "./scopes.ts";

/**
 * What `registries.d` says about signatures. Source: containers/image docs/containers-registries.d.5.md.
 */
export interface RegistriesD {
  /** `use-sigstore-attachments` by scope, where it is set; `""` is `default-docker`. */
  readonly attachments: ReadonlyMap<string, { readonly use: boolean; readonly source: string }>;
}

/** A `*.yaml` file of the folder. */
export interface RegistriesFile {
  readonly bytes: Uint8Array | string;
  readonly source: string;
}

const limits = { maxBytes: 1024 * 1024, maxFiles: 1000 } as const;

/**
 * Reads the files of a `registries.d` folder. A scope that two files define is refused, as containers/image does.
 * Throws `ERR_REGISTRIES_D_MALFORMED`.
 */
export async function parseRegistriesD(files: readonly RegistriesFile[]): Promise<RegistriesD> {
  if (files.length > limits.maxFiles) throw malformed("registries.d", `it has more than ${limits.maxFiles} files`);
  // Only whoever has such a folder pays for the parser.
  const { parse } = await import("yaml");
  const attachments = new Map<string, { readonly use: boolean; readonly source: string }>();
  const defined = new Map<string, string>();
  for (const { bytes, source } of files) {
    if (bytes.length > limits.maxBytes) throw malformed(source, `it has more than ${limits.maxBytes} bytes`);
    for (const [scope, value] of scopesIn(parseYaml(parse, bytes, source), source)) {
      const other = defined.get(scope);
      if (other !== undefined) throw malformed(source, `it defines ${scope === "" ? "default-docker" : scope}, and so does ${other}`);
      defined.set(scope, source);
      const use = attachmentsOf(value, scope, source);
      if (use !== undefined) attachments.set(scope, { use, source });
    }
  }
  return { attachments };
}

/** Whether skopeo and podman look for `.sig` signatures of an image: the most specific scope that says so, else no. */
export function usesAttachments({ attachments }: RegistriesD, subject: PolicySubject): boolean {
  return usesAttachmentsIn({ attachments }, scopesOf(subject));
}

/** As {@link usesAttachments} for a list of scopes, most specific first. */
export function usesAttachmentsIn({ attachments }: RegistriesD, scopes: readonly string[]): boolean {
  for (const scope of [...scopes, ""]) {
    const found = attachments.get(scope);
    if (found !== undefined) return found.use;
  }
  return false;
}

function parseYaml(
  parse: (text: string, options: { readonly maxAliasCount: number; readonly logLevel: "error" }) => unknown,
  bytes: Uint8Array | string,
  source: string,
): unknown {
  try {
    return parse(typeof bytes === "string" ? bytes : new TextDecoder("utf-8", { fatal: true }).decode(bytes), {
      maxAliasCount: 0,
      logLevel: "error",
    });
  } catch (cause) {
    throw malformed(source, "it is not YAML", cause);
  }
}

function scopesIn(document: unknown, source: string): readonly (readonly [string, unknown])[] {
  if (document === null || document === undefined) return [];
  const top = objectIn(document, source, "the document");
  const byScope = top["docker"] === undefined || top["docker"] === null ? {} : objectIn(top["docker"], source, "docker");
  const byDefault = top["default-docker"];
  return [...(byDefault === undefined || byDefault === null ? [] : [["", byDefault] as const]), ...Object.entries(byScope)];
}

function attachmentsOf(value: unknown, scope: string, source: string): boolean | undefined {
  if (value === null) return undefined;
  const use = objectIn(value, source, scope === "" ? "default-docker" : scope)["use-sigstore-attachments"];
  if (use === undefined || use === null) return undefined;
  if (typeof use !== "boolean")
    throw malformed(source, `use-sigstore-attachments of ${scope === "" ? "default-docker" : scope} is neither true nor false`);
  return use;
}

function objectIn(value: unknown, source: string, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(source, `${where} is not a map`);
  return value as Readonly<Record<string, unknown>>;
}

function malformed(source: string, complaint: string, cause?: unknown): SigningError {
  return new SigningError("ERR_REGISTRIES_D_MALFORMED", {
    message: `${source} is not a registries.d file: ${complaint}`,
    hint: "see containers-registries.d(5)",
    cause,
  });
}
