import { describeCause } from "../../errors/index.ts";
import { SigningError } from "../errors.ts";
import type { JsonObject } from "../shape.ts";
import type { TrustedRoot } from "./trusted-root.ts";

/** Sigstore's public services, embedded: nothing is fetched. */
export async function publicGoodTrustedRoot(): Promise<TrustedRoot> {
  const { publicGoodRoot } = await import("./public-good-root.ts");
  return { source: "the embedded root of Sigstore's public services", document: publicGoodRoot };
}

export interface RefreshRequest {
  /** Where TUF keeps what it has verified; it must not be writable for others. */
  readonly cachePath: string;
  /** Sigstore's own unless told. */
  readonly mirrorUrl?: string | undefined;
  /** The root of trust of another mirror, a TUF root.json that was obtained safely. */
  readonly rootPath?: string | undefined;
}

/**
 * Fetches the trusted root by TUF. Only when asked for: verification never does. The result is to be written to a file
 * and given to verification. Throws `ERR_SIGNING_PACKAGE_MISSING` or `ERR_SIGNING_SERVICE`.
 */
export async function refreshTrustedRoot({ cachePath, mirrorUrl, rootPath }: RefreshRequest): Promise<TrustedRoot> {
  const { getTrustedRoot } = await import("@sigstore/tuf").catch((cause: unknown) => {
    throw new SigningError("ERR_SIGNING_PACKAGE_MISSING", {
      message: "refreshing the trusted root needs the package @sigstore/tuf, which is not installed",
      hint: "npm install @sigstore/tuf",
      cause,
    });
  });
  const { TrustedRoot: ProtoTrustedRoot } = await import("@sigstore/protobuf-specs");
  try {
    const root = await getTrustedRoot({
      cachePath,
      ...(mirrorUrl === undefined ? {} : { mirrorURL: mirrorUrl }),
      ...(rootPath === undefined ? {} : { rootPath }),
    });
    return { source: mirrorUrl ?? "Sigstore's TUF repository", document: ProtoTrustedRoot.toJSON(root) as JsonObject };
  } catch (cause) {
    throw new SigningError("ERR_SIGNING_SERVICE", {
      message: `the trusted root cannot be refreshed: ${describeCause(cause).slice(0, 300)}`,
      hint: "check network and proxy; verification goes on with the root that is there",
      cause,
    });
  }
}
