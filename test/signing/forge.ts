import { mediaTypes, serializeJson, type Annotations, type Descriptor } from "../../src/oci/index.ts";
import type { KeySigner } from "../../src/signing/index.ts";
import type { ContentStore } from "../../src/store/index.ts";
import { pushBytes } from "./image.ts";

export const simpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json";
export const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json";
export const signatureAnnotation = "dev.cosignproject.cosign/signature";

export interface ForgedLayer {
  readonly payload: Buffer;
  readonly annotations: Annotations;
  readonly mediaType?: string;
}

/** Puts any layers under the `.sig` tag of an image. */
export async function forgeLegacy(store: ContentStore, target: Descriptor, layers: readonly ForgedLayer[]): Promise<void> {
  const descriptors: Descriptor[] = [];
  for (const { payload, annotations, mediaType = simpleSigning } of layers)
    descriptors.push({ ...(await pushBytes(store, mediaType, payload)), annotations });
  const config = await pushBytes(
    store,
    mediaTypes.config,
    serializeJson({ architecture: "", os: "", rootfs: { type: "layers", diff_ids: descriptors.map(({ digest }) => digest) }, config: {} }),
  );
  const manifest = await pushBytes(
    store,
    mediaTypes.manifest,
    serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: descriptors }),
  );
  await store.tag(manifest, `${target.digest.replace(":", "-")}.sig`);
}

/** Puts any bytes beside an image as a bundle. */
export async function forgeBundle(store: ContentStore, target: Descriptor, bytes: Buffer): Promise<Descriptor> {
  const config = await pushBytes(store, mediaTypes.empty, Buffer.from("{}"));
  const layer = await pushBytes(store, bundleType, bytes);
  const subject = { mediaType: target.mediaType, digest: target.digest, size: target.size };
  const manifest = { schemaVersion: 2, mediaType: mediaTypes.manifest, artifactType: bundleType, config, layers: [layer], subject };
  return await pushBytes(store, mediaTypes.manifest, serializeJson(manifest));
}

/** A layer whose payload is really signed, whatever it says. */
export async function signedLayer(signer: KeySigner, payload: string): Promise<ForgedLayer> {
  const bytes = Buffer.from(payload);
  return { payload: bytes, annotations: { [signatureAnnotation]: Buffer.from(await signer.sign(bytes)).toString("base64") } };
}

/** A bundle over any statement, really signed. */
export async function signedBundle(
  signer: KeySigner,
  statement: string,
  change: (bundle: Record<string, unknown>) => unknown = (bundle) => bundle,
): Promise<Buffer> {
  const payloadType = "application/vnd.in-toto+json";
  const payload = Buffer.from(statement);
  const message = Buffer.concat([Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `), payload]);
  const sig = Buffer.from(await signer.sign(message)).toString("base64");
  const bundle = {
    mediaType: bundleType,
    verificationMaterial: { publicKey: { hint: "" } },
    dsseEnvelope: { payload: payload.toString("base64"), payloadType, signatures: [{ sig }] },
  };
  return Buffer.from(JSON.stringify(change(bundle)));
}
