import { mediaTypes, serializeJson, type Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentStore } from "../store/index.ts";
import { parseBundle, preAuthEncoding, serializeKeyBundle } from "./bundle.ts";
import { describe, pushBytes } from "./content.ts";
import { bundleAnnotations, signaturePredicate, signatureTypes } from "./formats.ts";
import { verifyBytes } from "./keys/key-types.ts";
import type { PublicKey } from "./keys/public-key.ts";
import { settle } from "./settle.ts";
import type { BundleReceipt, SignRequest } from "./sign-request.ts";
import { serializeSignatureStatement } from "./statement.ts";
import { discover, readBundle, type BundleCandidate } from "./discover.ts";

const emptyConfig = Buffer.from("{}", "utf8");

/** Signs the statement and stores the bundle as a referrer; one of the same key over the same statement is left as it is. */
export async function writeBundle(request: SignRequest, options: CallOptions): Promise<BundleReceipt> {
  const store = request.signatureStore ?? request.store;
  const { target, annotations = {}, signer, now } = request;
  const payload = serializeSignatureStatement(target.digest, annotations);
  const present = await findOwn(store, target, payload, signer.publicKey, options);
  if (present !== undefined) return { manifest: present, outcome: "present" };
  const signature = Buffer.from(await signer.sign(preAuthEncoding(signatureTypes.inToto, payload), options));
  const bundle = serializeKeyBundle({ payloadType: signatureTypes.inToto, payload, signature }, signer.publicKey);
  return { manifest: await keepBundle({ store, target, bundle, predicateType: signaturePredicate, now }, options), outcome: "added" };
}

export interface BundleToKeep {
  readonly store: ContentStore;
  readonly target: Descriptor;
  readonly bundle: Uint8Array;
  readonly predicateType: string;
  readonly now: Date;
}

/**
 * Stores a bundle as a referrer of the target and stays until it is listed: a registry without the referrers API keeps
 * the list in a tag, where parallel writers lose each other's entries.
 */
export async function keepBundle({ store, target, bundle, predicateType, now }: BundleToKeep, options: CallOptions): Promise<Descriptor> {
  const config = describe(mediaTypes.empty, emptyConfig);
  const layer = describe(signatureTypes.bundle, bundle);
  const manifest = serializeJson({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType: signatureTypes.bundle,
    config,
    layers: [layer],
    subject: { mediaType: target.mediaType, digest: target.digest, size: target.size },
    annotations: {
      [bundleAnnotations.content]: "dsse-envelope",
      [bundleAnnotations.predicateType]: predicateType,
      [bundleAnnotations.created]: now.toISOString().replace(/\.\d{3}Z$/, "Z"),
    },
  });
  const descriptor = describe(mediaTypes.manifest, manifest);
  await pushBytes(store, config, emptyConfig, options);
  await pushBytes(store, layer, bundle, options);
  await settle(
    {
      subject: `the list of referrers of ${target.digest} in ${store.name}`,
      attempt: async () => {
        const listed = await store.referrers(target, options);
        if (listed.some(({ digest }) => digest === descriptor.digest)) return "complete";
        await pushBytes(store, descriptor, manifest, options);
        return "written";
      },
    },
    options,
  );
  return { ...descriptor, artifactType: signatureTypes.bundle };
}

async function findOwn(
  store: ContentStore,
  target: Descriptor,
  payload: Uint8Array,
  publicKey: PublicKey,
  options: CallOptions,
): Promise<Descriptor | undefined> {
  const { candidates } = await discover({ store, target, formats: ["bundle"] }, options);
  for (const candidate of candidates) {
    if (candidate.kind === "bundle" && (await isOwn(store, candidate, payload, publicKey, options))) return candidate.manifest;
  }
  return undefined;
}

async function isOwn(
  store: ContentStore,
  candidate: BundleCandidate,
  payload: Uint8Array,
  { key, type }: PublicKey,
  options: CallOptions,
): Promise<boolean> {
  // Only what a key alone vouches for can stand in for a new signature.
  if (candidate.bundleLayer.size > payload.length * 2 + 4096) return false;
  const bytes = await readBundle(store, candidate, options);
  let bundle;
  try {
    bundle = parseBundle(bytes);
  } catch {
    // A stranger's malformed bundle is not ours.
    return false;
  }
  const { envelope } = bundle;
  if (bundle.material.kind !== "public-key" || !envelope.payload.equals(payload)) return false;
  return await verifyBytes(preAuthEncoding(envelope.payloadType, envelope.payload), key, type, envelope.signature);
}
