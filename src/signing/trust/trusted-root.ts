import { parseJson } from "../../bytes/index.ts";
import { SigningError } from "../errors.ts";
import type { JsonObject } from "../shape.ts";

/**
 * Certificate authorities, logs and timestamp authorities that a verifier trusts, as Sigstore's clients exchange them.
 * Source: sigstore/protobuf-specs protos/sigstore_trustroot.proto, JSON form.
 */
export interface TrustedRoot {
  /** The file, for messages. */
  readonly source: string;
  readonly document: JsonObject;
}

export interface TrustedRootSource {
  readonly bytes: Uint8Array | string;
  readonly source: string;
}

const maxTrustedRootBytes = 4 * 1024 * 1024;
const mediaTypeGrammar = /^application\/vnd\.dev\.sigstore\.trustedroot(?:\+json;version=0\.1|\.v0\.[12]\+json)$/;

/**
 * Reads a trusted root file. One without any authority is valid: it trusts nothing. Its keys and certificates are
 * decoded when a signature first needs them. Throws `ERR_TRUSTED_ROOT_MALFORMED`.
 */
export function loadTrustedRoot({ bytes, source }: TrustedRootSource): TrustedRoot {
  let document: unknown;
  try {
    document = parseJson(bytes, { maxBytes: maxTrustedRootBytes, subject: source });
  } catch (cause) {
    throw malformedRoot(source, "it cannot be read as JSON", cause);
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) throw malformedRoot(source, "it is not an object");
  const { mediaType } = document as JsonObject;
  if (typeof mediaType !== "string" || !mediaTypeGrammar.test(mediaType)) {
    throw malformedRoot(source, `its mediaType is ${JSON.stringify(mediaType)?.slice(0, 120) ?? "missing"}`);
  }
  return { source, document: document as JsonObject };
}

export function malformedRoot(source: string, complaint: string, cause?: unknown): SigningError {
  return new SigningError("ERR_TRUSTED_ROOT_MALFORMED", {
    message: `${source} is not a trusted root: ${complaint} (expected application/vnd.dev.sigstore.trustedroot+json;version=0.1)`,
    hint: "cosign trusted-root create writes one for a private deployment",
    cause,
  });
}
