import { ToolError } from "../errors/index.ts";
import type { Descriptor, ImageManifest } from "../oci/index.ts";
import type { CallOptions, ContentStore } from "../store/index.ts";
import { pushBytes, resolveIfPresent } from "./content.ts";
import { SigningError } from "./errors.ts";
import { makeEvidence } from "./evidence.ts";
import { legacyEvidence } from "./evidence-forms.ts";
import { legacyAnnotations, signatureLimits } from "./formats.ts";
import { verifyBytes } from "./keys/key-types.ts";
import { attachmentTagOf, buildLegacyManifest, layerKey, legacyLayer, readLegacyManifest, signatureOf } from "./legacy-manifest.ts";
import { serializePayload } from "./payload.ts";
import type { PublicKey } from "./keys/public-key.ts";
import { settle } from "./settle.ts";
import type { KeepOutcome, LegacyReceipt, SignRequest } from "./sign-request.ts";

/** Signs the payload and appends it to the `.sig` tag; a signature of the same key over the same payload is left as it is. */
export async function writeLegacySignature(request: SignRequest, options: CallOptions): Promise<LegacyReceipt> {
  const store = request.signatureStore ?? request.store;
  const { target, reference, annotations = {}, signer } = request;
  const tag = attachmentTagOf(target.digest, "sig");
  if (tag === undefined) {
    throw new SigningError("ERR_SIGNING_UNSUPPORTED", {
      message: `${target.digest} cannot have a .sig tag: the name would be longer than 128 characters`,
      hint: "sign with --format bundle",
    });
  }
  const payload = serializePayload({ reference, digest: target.digest, annotations });
  const unsigned = legacyLayer(payload, {});
  const existing = await readLegacyManifest(store, tag, options);
  const isPlainKey = signer.kind === "key" && signer.services === undefined;
  const own =
    existing !== undefined && isPlainKey ? await findOwn(existing.manifest.layers, unsigned, payload, signer.publicKey) : undefined;
  if (own !== undefined && existing !== undefined) return { tag, manifest: existing.descriptor, outcome: "present" };
  const layer = legacyLayer(payload, legacyEvidence(await makeEvidence(signer, { message: payload, form: { kind: "message" } }, options)));
  await pushBytes(store, unsigned, payload, options);
  return await keepLayer({ store, tag, layer, outcome: "added" }, options);
}

export interface LayerToKeep {
  readonly store: ContentStore;
  readonly tag: string;
  readonly layer: Descriptor;
  readonly outcome: KeepOutcome;
}

/** Appends a layer to what stands under a tag, and stays until it is kept together with everything else seen there. */
export async function keepLayer({ store, tag, layer, outcome }: LayerToKeep, options: CallOptions): Promise<LegacyReceipt> {
  const seen = new Map([[layerKey(layer), layer]]);
  let manifest: Descriptor | undefined;
  let collisions = 0;
  await settle(
    {
      subject: `tag ${tag} of ${store.name}`,
      attempt: async () => {
        const current = await readLegacyManifest(store, tag, options);
        const present = new Map((current?.manifest.layers ?? []).map((item) => [layerKey(item), item]));
        const saw = [...present.keys()].every((key) => seen.has(key)) ? "nothing-new" : "news";
        for (const [key, item] of present) seen.set(key, item);
        manifest = current?.descriptor;
        if ([...seen.keys()].every((key) => present.has(key))) return { outcome: "complete", saw };
        try {
          const merged = await pushLayers(store, tag, [...seen.values()], current?.manifest, options);
          // Uploading takes longer than anything else here: look once more before the tag moves.
          const latest = await resolveIfPresent(store, tag, options);
          if (latest?.digest !== current?.descriptor.digest) return { outcome: "raced", saw };
          await store.tag(merged, tag, options);
        } catch (error) {
          if (!isCollision(error) || collisions >= maxCollisions) throw error;
          collisions += 1;
          return { outcome: "collided", saw };
        }
        return { outcome: "written", saw };
      },
    },
    options,
  );
  if (manifest === undefined) throw new SigningError("ERR_SIGNATURE_NOT_KEPT", { message: `tag ${tag} of ${store.name} is gone` });
  return { tag, manifest, outcome };
}

const maxCollisions = 20;

/**
 * Whether a registry refused a manifest because somebody else was writing the same content at the same moment.
 *
 * docker-registry 2.8 writes its link files in place: while one client writes the link of a config that another one
 * has just pushed too, a reader finds it empty and calls the digest invalid (measured with 32 parallel signers, who
 * arrive at the same union and so at the same bytes). It happens when the manifest is stored and when the tag is moved to it.
 */
function isCollision(error: unknown): boolean {
  const collisionCodes: ReadonlySet<unknown> = new Set(["DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"]);
  return error instanceof ToolError && collisionCodes.has(error.details["registryCode"]);
}

/** Stores a `.sig` manifest of these layers under its digest; the tag is not moved yet. */
async function pushLayers(
  store: ContentStore,
  tag: string,
  layers: readonly Descriptor[],
  existing: ImageManifest | undefined,
  options: CallOptions,
): Promise<Descriptor> {
  if (layers.length > signatureLimits.maxLayers) {
    throw new SigningError("ERR_SIGNATURE_LIMIT", {
      message: `tag ${tag} of ${store.name} holds ${layers.length - 1} signatures already (limit ${signatureLimits.maxLayers})`,
      hint: "look at what the tag holds, remove it, and sign again",
    });
  }
  const { config, configDescriptor, manifest, manifestDescriptor } = buildLegacyManifest(layers, existing);
  await pushBytes(store, configDescriptor, config, options);
  await pushBytes(store, manifestDescriptor, manifest, options);
  return manifestDescriptor;
}

/** A layer over the same payload whose signature verifies under our key: the duplicate check of cosign. */
async function findOwn(
  layers: readonly Descriptor[],
  unsigned: Descriptor,
  payload: Uint8Array,
  { key, type }: PublicKey,
): Promise<Descriptor | undefined> {
  for (const layer of layers) {
    if (layer.digest !== unsigned.digest || layer.mediaType !== unsigned.mediaType) continue;
    const annotations = layer.annotations ?? {};
    if (Object.keys(annotations).length !== 1 || annotations[legacyAnnotations.signature] === undefined) continue;
    if (await isGood(annotations, payload, { key, type })) return layer;
  }
  return undefined;
}

async function isGood(
  annotations: Readonly<Record<string, string>>,
  payload: Uint8Array,
  { key, type }: Pick<PublicKey, "key" | "type">,
): Promise<boolean> {
  let signature: Buffer;
  try {
    signature = signatureOf(annotations);
  } catch {
    // A stranger's malformed signature is not ours, and is kept like any other.
    return false;
  }
  return await verifyBytes(payload, key, type, signature);
}
