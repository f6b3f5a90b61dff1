import type { Descriptor, Platform } from "./descriptor.ts";
import { OciError } from "./errors.ts";
import type { ImageIndex } from "./manifest.ts";
import { isManifestMediaType } from "./media-types.ts";

// Source: OCI image-spec, image-index.md, "platform", which takes GOOS and GOARCH; containerd's platforms package for
// the other spellings and for which variant runs on which.
const architectures: Readonly<Record<string, { readonly architecture: string; readonly variant?: string }>> = {
  x86_64: { architecture: "amd64" },
  "x86-64": { architecture: "amd64" },
  x64: { architecture: "amd64" },
  aarch64: { architecture: "arm64" },
  armhf: { architecture: "arm", variant: "v7" },
  armel: { architecture: "arm", variant: "v6" },
  i386: { architecture: "386" },
  i686: { architecture: "386" },
  ia32: { architecture: "386" },
};

/** What an absent variant means. */
const defaultVariants: Readonly<Record<string, string>> = { arm: "v7", arm64: "v8", amd64: "v1" };
/** Architectures whose variant vN also runs what was built for all lower ones. */
const ordered: ReadonlySet<string> = new Set(["arm", "arm64", "amd64"]);

const word = /^[A-Za-z0-9_.-]{1,64}$/;

/** Parses `OS/ARCHITECTURE[/VARIANT]`, normalised. Throws `ERR_IMAGE_NAME_MALFORMED`. */
export function parsePlatform(text: string): Platform {
  const [os = "", architecture = "", variant, ...rest] = text.split("/");
  if (!word.test(os) || !word.test(architecture) || (variant !== undefined && !word.test(variant)) || rest.length > 0) {
    throw new OciError("ERR_IMAGE_NAME_MALFORMED", {
      message: `platform ${JSON.stringify(text.slice(0, 80))} is not OS/ARCHITECTURE[/VARIANT]`,
      hint: "write for example linux/amd64 or linux/arm/v7",
    });
  }
  return normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}

/** The spelling that image builders use: GOOS, GOARCH, and no variant where it is the architecture's default. */
export function normalizePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase() === "macos" ? "darwin" : platform.os.toLowerCase();
  const given = platform.architecture.toLowerCase();
  const alias = Object.hasOwn(architectures, given) ? architectures[given] : undefined;
  const architecture = alias?.architecture ?? given;
  const variant = normalizeVariant(architecture, platform.variant ?? alias?.variant);
  const { variant: _, ...rest } = platform;
  return { ...rest, os, architecture, ...(variant === undefined ? {} : { variant }) };
}

function normalizeVariant(architecture: string, given: string | undefined): string | undefined {
  if (given === undefined || given === "") return architecture === "arm" ? "v7" : undefined;
  const lower = given.toLowerCase();
  const variant = ordered.has(architecture) && /^[0-9]/.test(lower) ? `v${lower}` : lower;
  return architecture !== "arm" && variant === defaultVariants[architecture] ? undefined : variant;
}

/** `linux/arm/v7`; with `os.version` in brackets after the system where it is there. */
export function formatPlatform(platform: Platform): string {
  const version = platform["os.version"] === undefined ? "" : `(${platform["os.version"]})`;
  return `${platform.os}${version}/${platform.architecture}${platform.variant === undefined ? "" : `/${platform.variant}`}`;
}

const nodeArchitectures: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le", loong64: "loong64" };

/** The platform whose images this machine runs: Linux containers, whatever system Node.js itself runs on. */
export function hostPlatform(nodeArchitecture: string = process.arch): Platform {
  return normalizePlatform({ os: "linux", architecture: nodeArchitectures[nodeArchitecture] ?? nodeArchitecture });
}

/**
 * How well an image's platform suits: 0 is exact, higher is an older variant that also runs; `undefined` does not run.
 *
 * An image that demands `os.version` or `os.features` suits only who asks for them.
 */
export function platformDistance(candidate: Platform, wanted: Platform): number | undefined {
  const have = normalizePlatform(candidate);
  const want = normalizePlatform(wanted);
  if (have.os !== want.os || have.architecture !== want.architecture) return undefined;
  const version = want["os.version"];
  if (version !== undefined && have["os.version"] !== version && !have["os.version"]?.startsWith(`${version}.`)) return undefined;
  const features = want["os.features"] ?? [];
  if (have["os.features"]?.some((feature) => !features.includes(feature)) === true) return undefined;
  const fallback = defaultVariants[want.architecture] ?? "";
  const haveVariant = have.variant ?? fallback;
  const wantVariant = want.variant ?? fallback;
  if (haveVariant === wantVariant) return 0;
  if (!ordered.has(want.architecture)) return undefined;
  const distance = variantNumber(wantVariant) - variantNumber(haveVariant);
  return distance > 0 ? distance : undefined;
}

function variantNumber(variant: string): number {
  return /^v[0-9]{1,3}$/.test(variant) ? Number(variant.slice(1)) : Number.NaN;
}

/**
 * Whether an index entry is not an image but says something about one (BuildKit's provenance and SBOM), or is for no
 * platform at all. Such entries are carried along and never encrypted or run.
 * Source: BuildKit, "Attestation storage" (`vnd.docker.reference.type`, platform `unknown/unknown`).
 */
export function isAttestationManifest(entry: Descriptor): boolean {
  return (
    entry.annotations?.["vnd.docker.reference.type"] === "attestation-manifest" ||
    (entry.platform?.os === "unknown" && entry.platform.architecture === "unknown")
  );
}

/**
 * The entry of an index that suits a platform best; the first of equals. An entry without a platform is taken when it
 * is the only image. Throws `ERR_PLATFORM_NOT_FOUND`, listing what there is.
 */
export function selectPlatform(index: ImageIndex, wanted: Platform): Descriptor {
  const images = index.manifests.filter((entry) => isManifestMediaType(entry.mediaType) && !isAttestationManifest(entry));
  let best: { readonly entry: Descriptor; readonly distance: number } | undefined;
  for (const entry of images) {
    const distance = entry.platform === undefined ? undefined : platformDistance(entry.platform, wanted);
    if (distance !== undefined && (best === undefined || distance < best.distance)) best = { entry, distance };
  }
  if (best !== undefined) return best.entry;
  const [only, ...others] = images;
  if (only !== undefined && others.length === 0 && only.platform === undefined) return only;
  const available = images.slice(0, 20).map((entry) => (entry.platform === undefined ? "(none named)" : formatPlatform(entry.platform)));
  throw new OciError("ERR_PLATFORM_NOT_FOUND", {
    message: `the index has no image for ${formatPlatform(wanted)} (it has ${available.length === 0 ? "no images" : available.join(", ")})`,
    hint: "choose one of these with --platform",
    details: { wanted: formatPlatform(wanted), available },
  });
}
