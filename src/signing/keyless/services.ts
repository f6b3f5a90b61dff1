import { parseJson } from "../../bytes/index.ts";
import { SigningError } from "../errors.ts";
import type { JsonObject } from "../shape.ts";

/** Where a signature is made known. URLs without a trailing slash. */
export interface SigningServices {
  /** Certificate authority; only keyless signing asks it. */
  readonly fulcioUrl: string | undefined;
  /** OpenID Connect issuer at which a person signs in, for a token that the certificate authority takes. */
  readonly issuerUrl: string | undefined;
  readonly rekor: { readonly url: string; readonly majorApiVersion: 1 | 2 } | undefined;
  /** RFC 3161 endpoints, in full. */
  readonly timestampUrls: readonly string[];
}

/** Sigstore's public services. What is signed there is public for ever. Source: sigstore/root-signing, signing_config. */
export const publicGoodServices: SigningServices = {
  fulcioUrl: "https://fulcio.sigstore.dev",
  issuerUrl: "https://oauth2.sigstore.dev/auth",
  rekor: { url: "https://rekor.sigstore.dev", majorApiVersion: 1 },
  timestampUrls: [],
};

/** A key signs without any. */
export const noServices: SigningServices = { fulcioUrl: undefined, issuerUrl: undefined, rekor: undefined, timestampUrls: [] };

export interface SigningConfigSource {
  readonly bytes: Uint8Array | string;
  readonly source: string;
  /** Services whose time has not come or has gone are passed over. */
  readonly now: Date;
}

const maxConfigBytes = 1024 * 1024;
const mediaType = "application/vnd.dev.sigstore.signingconfig.v0.2+json";

/**
 * Chooses services from a signing config, v0.2: of each kind the valid one of the newest version that is known.
 * Throws `ERR_SIGNING_CONFIG_MALFORMED`. Source: sigstore/protobuf-specs protos/sigstore_trustroot.proto, `SigningConfig`.
 */
export function loadSigningConfig({ bytes, source, now }: SigningConfigSource): SigningServices {
  let document: unknown;
  try {
    document = parseJson(bytes, { maxBytes: maxConfigBytes, subject: source });
  } catch (cause) {
    throw malformed(source, "it cannot be read as JSON", cause);
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) throw malformed(source, "it is not an object");
  const config = document as JsonObject;
  if (config["mediaType"] !== mediaType) throw malformed(source, `its mediaType is not ${mediaType}`);
  const usable = (name: string, versions: readonly number[]): readonly Service[] =>
    servicesIn(config[name], name, source)
      .filter(({ version, start, end }) => versions.includes(version) && start <= now && now <= end)
      .sort((left, right) => right.version - left.version);
  const [rekor] = usable("rekorTlogUrls", [1, 2]);
  return {
    fulcioUrl: usable("caUrls", [1])[0]?.url,
    issuerUrl: usable("oidcUrls", [1])[0]?.url,
    rekor: rekor === undefined ? undefined : { url: rekor.url, majorApiVersion: rekor.version === 2 ? 2 : 1 },
    timestampUrls: usable("tsaUrls", [1])
      .slice(0, 1)
      .map(({ url }) => url),
  };
}

interface Service {
  readonly url: string;
  readonly version: number;
  readonly start: Date;
  readonly end: Date;
}

function servicesIn(value: unknown, name: string, source: string): readonly Service[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw malformed(source, `${name} is not a list`);
  return value.map((item: unknown): Service => {
    if (typeof item !== "object" || item === null) throw malformed(source, `an entry of ${name} is not an object`);
    const { url, majorApiVersion, validFor } = item as JsonObject;
    if (typeof url !== "string" || !URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw malformed(source, `an entry of ${name} has no http or https url`);
    if (typeof majorApiVersion !== "number") throw malformed(source, `an entry of ${name} has no majorApiVersion`);
    const { start, end } = (validFor ?? {}) as JsonObject;
    return {
      url: url.replace(/\/+$/, ""),
      version: majorApiVersion,
      start: timeOf(start, new Date(0), source),
      end: timeOf(end, new Date(8.64e15), source),
    };
  });
}

function timeOf(value: unknown, missing: Date, source: string): Date {
  if (value === undefined) return missing;
  const time = new Date(typeof value === "string" ? value : Number.NaN);
  if (Number.isNaN(time.getTime())) throw malformed(source, "a validFor is not a time");
  return time;
}

function malformed(source: string, complaint: string, cause?: unknown): SigningError {
  return new SigningError("ERR_SIGNING_CONFIG_MALFORMED", {
    message: `${source} is not a signing config: ${complaint}`,
    hint: "cosign signing-config create writes one for a private deployment",
    cause,
  });
}
