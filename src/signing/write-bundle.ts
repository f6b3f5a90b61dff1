import { ToolError } from "../errors/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentStore } from "../store/index.ts";
import { parseBundle, preAuthEncoding } from "./bundle.ts";
import { describe, pushBytes } from "./content.ts";
import { SigningError } from "./errors.ts";
import { bundleAnnotations, signaturePredicate, signatureTypes } from "./formats.ts";
import { verifyBytes } from "./keys/key-types.ts";
import type { PublicKey } from "./keys/public-key.ts";
import type { BundleReceipt, KeepOutcome, SignRequest } from "./sign-request.ts";
import { signBundle } from "./sign-bundle.ts";
import { parseStatement, serializeSignatureStatement, subjectsNaming } from "./statement.ts";
import { discover, readBundle } from "./discover.ts";

const emptyConfig = Buffer.from("{}", "utf8");

export type BundleRequest = Pick<SignRequest, "store" | "target" | "signer" | "annotations" | "signatureStore" | "now">;

/** Signs the statement and stores the bundle as a referrer; one of the same key over the same statement is left as it is. */
export async function writeBundle(request: BundleRequest, options: CallOptions): Promise<BundleReceipt> {
  const store = request.signatureStore ?? request.store;
  const { target, annotations = {}, signer, now } = request;
  const payload = serializeSignatureStatement(target.digest, annotations);
  // A signature that is made known again is another one: its entry or its certificate is new.
  const isPlainKey = signer.kind === "key" && signer.services === undefined;
  const present = isPlainKey ? await findOwn(store, target, signer.publicKey, (signed) => signed.equals(payload), options) : undefined;
  if (present !== undefined) return { manifest: present, outcome: "present" };
  const bundle = await signBundle(signer, payload, options);
  return { manifest: await keepBundle({ store, target, bundle, predicateType: signaturePredicate, now }, options), outcome: "added" };
}

export interface BundleToKeep {
  readonly store: ContentStore;
  readonly target: Descriptor;
  readonly bundle: Uint8Array;
  readonly predicateType: string;
  readonly now: Date;
}

const maxPushes = 3;

/**
 * Stores a bundle as a referrer of the target, and looks whether it is listed. That parallel writers lose none where the
 * list is kept in a tag is the store's own work; this is the check that it did it.
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
  for (let round = 0; round < maxPushes; round += 1) {
    await pushBytes(store, descriptor, manifest, options);
    const listed = await store.referrers(target, options);
    if (listed.some(({ digest }) => digest === descriptor.digest)) return { ...descriptor, artifactType: signatureTypes.bundle };
  }
  throw new SigningError("ERR_SIGNATURE_NOT_KEPT", {
    message: `${store.name} does not list the bundle ${descriptor.digest} among the referrers of ${target.digest}, though it was pushed ${maxPushes} times`,
    hint: "wait until the other signing jobs are done, and sign again; or sign with --format legacy",
  });
}

/** Makes sure that a signature bundle of this key stands beside the target, whatever annotations it carries. */
export async function ensureSignatureBundle(request: BundleRequest, options: CallOptions): Promise<KeepOutcome> {
  const store = request.signatureStore ?? request.store;
  const { digest } = request.target;
  const isSignature = (signed: Buffer): boolean => {
    const statement = parseStatement(signed);
    return statement.predicateType === signaturePredicate && subjectsNaming(statement, digest).length > 0;
  };
  const { signer, target } = request;
  if (signer.kind === "key" && (await findOwn(store, target, signer.publicKey, isSignature, options)) !== undefined) return "present";
  return (await writeBundle(request, options)).outcome;
}

/** Beyond this a bundle holds more than a signature by a key, and is not looked into for one. */
const maxOwnBytes = 64 * 1024;

/** A bundle whose statement passes and is signed by our key. */
async function findOwn(
  store: ContentStore,
  target: Descriptor,
  publicKey: PublicKey,
  passes: (payload: Buffer) => boolean,
  options: CallOptions,
): Promise<Descriptor | undefined> {
  const { candidates } = await discover({ store, target, formats: ["bundle"] }, options);
  for (const candidate of candidates) {
    if (candidate.kind !== "bundle" || candidate.bundleLayer.size > maxOwnBytes) continue;
    if (await isOwn(await readBundle(store, candidate, options), publicKey, passes)) return candidate.manifest;
  }
  return undefined;
}

async function isOwn(bytes: Buffer, { key, type }: PublicKey, passes: (payload: Buffer) => boolean): Promise<boolean> {
  try {
    const { envelope, material } = parseBundle(bytes);
    if (material.kind !== "public-key" || !passes(envelope.payload)) return false;
    return await verifyBytes(preAuthEncoding(envelope.payloadType, envelope.payload), key, type, envelope.signature);
  } catch (error) {
    // A stranger's malformed bundle is not ours; anything else is told.
    if (error instanceof ToolError && error.category === "integrity") return false;
    throw error;
  }
}
