import { isKbsUri, KeywrapError, parseKbsUri, type KeyWrapper, type RecipientDescription, type WrapScheme } from "../keywrap/index.ts";
import { describeEncryption, encryptedMediaType, isSealableMediaType, type EncryptionDescription } from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentStore } from "../store/index.ts";
import { PipelineError } from "./errors.ts";
import { imagesOf, labelOf, readImageTree } from "./image-tree.ts";

/** Whose readers: stock Confidential Containers guests, or whatever uses ocicrypt (skopeo, podman, containerd, CRI-O). */
export type LintProfile = "coco" | "ocicrypt";

export interface LintFinding {
  readonly image: string;
  readonly position: number;
  readonly message: string;
  readonly hint: string;
}

const cocoTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.layer.v1.tar+encrypted",
  "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+encrypted",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip+encrypted",
]);

/**
 * Says why a stock reader would not open an image; an empty list when it would. Source: measured readers of ocicrypt, and
 * image-rs (media types by exact match, scheme `provider.attestation-agent`, gzip or none).
 */
export async function lintImage(
  request: { readonly store: ContentStore; readonly root: Descriptor; readonly profile: LintProfile },
  options: CallOptions = {},
): Promise<readonly LintFinding[]> {
  const tree = await readImageTree(request, options);
  return imagesOf(tree).flatMap((node) => lintLayers(node.manifest.layers, request.profile, labelOf(node)));
}

/** Throws `ERR_PROFILE_REFUSED` when the profile's readers would not open one of these sealed layers. */
export function requireProfile(layers: readonly Descriptor[], profile: LintProfile, where: string): void {
  const [first] = lintLayers(layers, profile, where);
  if (first !== undefined) throw refused(profile, first);
}

/** What of that can be told of plain layers before a byte of them moves: their types once they are sealed, and whom they are for. */
export function foreseeProfile(
  chosen: readonly (readonly [position: number, layer: Descriptor])[],
  { profile, wrappers, image }: { readonly profile: LintProfile; readonly wrappers: readonly KeyWrapper[]; readonly image: string },
): void {
  if (profile !== "coco") return;
  const schemes = wrappers.flatMap((wrapper) => wrapper.schemes);
  for (const [position, { mediaType }] of chosen) {
    const [problem] = [...problemsOfType(encryptedMediaType(mediaType)), ...problemsOfSchemes(schemes)];
    if (problem !== undefined) throw refused(profile, { image, position, message: problem[0], hint: problem[1] });
  }
}

function refused(profile: LintProfile, { image, position, message, hint }: LintFinding): PipelineError {
  return new PipelineError("ERR_PROFILE_REFUSED", {
    message: `a ${profile} reader would not open layer ${position} of ${image}: ${message}`,
    hint,
  });
}

function lintLayers(layers: readonly Descriptor[], profile: LintProfile, image: string): readonly LintFinding[] {
  return layers.flatMap((layer, position) => {
    const encryption = describeEncryption(layer);
    if (encryption === undefined) {
      if (profile !== "coco" || isSealableMediaType(layer.mediaType)) return [];
      return [{ image, position, message: `its media type ${layer.mediaType} is no image layer's`, hint: "leave it out of the image" }];
    }
    return [...problemsOf(layer, encryption, profile)].map(([message, hint]) => ({ image, position, message, hint }));
  });
}

function* problemsOf(layer: Descriptor, encryption: EncryptionDescription, profile: LintProfile): Generator<readonly [string, string]> {
  for (const { message } of encryption.problems) yield [message, "encrypt the image again"];
  if (encryption.cipher !== "AES_256_CTR_HMAC_SHA256")
    yield [`its cipher is ${encryption.cipher ?? "unknown"}`, `encrypt with --profile ${profile}`];
  if (profile === "ocicrypt") {
    const usable = encryption.recipients.some(({ scheme, id }) => scheme !== "jwe" || id?.startsWith("kbs:") !== true);
    if (!usable)
      yield [
        "its only recipients are keys at a KBS that ocicrypt does not ask",
        "add a recipient like jwe:FILE, or use ociseal's key provider",
      ];
    return;
  }
  yield* problemsOfType(layer.mediaType);
  yield* problemsOfSchemes(encryption.recipients.map(({ scheme }) => scheme));
  for (const recipient of encryption.recipients) if (recipient.scheme === "provider.attestation-agent") yield* problemsOfPacket(recipient);
}

function* problemsOfType(mediaType: string): Generator<readonly [string, string]> {
  if (!cocoTypes.has(mediaType))
    yield [`its media type ${mediaType} is not among the four that image-rs knows`, "compress with gzip, or not at all"];
}

function* problemsOfSchemes(schemes: readonly WrapScheme[]): Generator<readonly [string, string]> {
  const providers = schemes.filter((scheme) => scheme.startsWith("provider."));
  if (!providers.includes("provider.attestation-agent"))
    yield ["it has no packet for the attestation agent", "add a recipient like kbs:///REPOSITORY/TYPE/TAG"];
  // image-rs takes the alphabetically first provider whatever it is called.
  else if (providers.toSorted()[0] !== "provider.attestation-agent")
    yield ["another key provider's packet sorts before the attestation agent's", "remove that recipient"];
}

const again = "wrap it again: ociseal rewrap --add kbs:///REPOSITORY/TYPE/TAG";

/**
 * What a guest's confidential data hub makes of the packet's key id and wrap type. It wants the scheme, which
 * coco_keyprovider leaves out of the ids that it makes itself; its KBS wants three segments. Source: CoCo `resource_uri`
 * and confidential-data-hub `kms`, Trustee's resource plugin.
 */
function* problemsOfPacket({ id = "", kind, algorithm }: RecipientDescription): Generator<readonly [string, string]> {
  if (kind !== "kbs") return;
  const name = JSON.stringify(id.slice(0, 160));
  if (!isKbsUri(id)) yield [`its key id ${name} does not begin with kbs://, so the guest refuses it`, again];
  else if (!isResource(id)) yield [`its key id ${name} is not of three segments, so no KBS has it`, again];
  if (algorithm !== "A256GCM" && algorithm !== "A256CTR")
    yield [`its key packet is wrapped with ${JSON.stringify(algorithm?.slice(0, 40)) ?? "nothing that it names"}`, again];
}

function isResource(uri: string): boolean {
  try {
    parseKbsUri(uri);
    return true;
  } catch (error) {
    if (error instanceof KeywrapError) return false;
    throw error;
  }
}
