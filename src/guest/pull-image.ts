import { CipherThreads, type CipherName, type Engine } from "../cipher/index.ts";
import type { Digest } from "../bytes/index.ts";
import type { KeyPacket, KeyUnwrapper } from "../keywrap/index.ts";
import { checkSealedLayer, isEncryptedLayer, openLayer, type OpenedLayer } from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions } from "../store/index.ts";
import { admitImage, type AdmitRequest, type AdmittedImage } from "./admit.ts";
import { InflateThread } from "./inflate-thread.ts";
import { LayerCache } from "./layer-cache.ts";
import { LayerStreams } from "./layer-streams.ts";
import type { MeasurementSink } from "./measure.ts";
import { readImage, type OpenedImage } from "./open-image.ts";
import { checkRecordFile, recordOf, stageRecord, type StagedRecord } from "./record.ts";
import type { VerifiedSeal } from "../signing/index.ts";
import { demandSeal, sealedSource } from "./seal.ts";
import type { ReadAheadSettings } from "./read-ahead.ts";
import { cleanedUp } from "./staging.ts";
import { checkPlainLayer, unpackLayers, type TreeOutput, type TreeRequest, type UnpackEvent, type UnpackReport } from "./unpack-image.ts";
import { writeLayout, type LayoutReport } from "./write-layout.ts";

/**
 * What a pull makes. `oci`: an OCI layout of the decrypted image. `oci-encrypted`: the same, layers as they are, no key
 * asked for, no plaintext anywhere.
 */
export type PullOutput = TreeOutput | "oci" | "oci-encrypted";

/** Makes the keys to open with. Called once, after the image was admitted, and only if a layer is encrypted: attest in here. */
export type KeySource = (image: AdmittedImage, options: CallOptions) => Promise<readonly KeyUnwrapper[]>;

export interface PullRequest extends AdmitRequest, Omit<TreeRequest, "output"> {
  readonly output: PullOutput;
  readonly openKeys: KeySource;
  readonly engine?: Engine | undefined;
  /** Path of a folder that keeps layers as they are stored, encrypted ones encrypted, for this pull's retry and other pulls. */
  readonly layerCache?: string | undefined;
  readonly readAhead?: ReadAheadSettings | undefined;
  /** `required`: a signed statement of the plaintext must be there, and layers must decrypt to exactly that. */
  readonly seal?: "required" | undefined;
  /** What the image is called in the record and the measurement; the store's name unless told. */
  readonly name?: string | undefined;
  /** Measures the pull after everything held and before it is put in place. */
  readonly measure?: MeasurementSink | undefined;
  /**
   * Path of a file that says what was pulled, who vouched and how it was opened. It stands before the target does: no target
   * without its record, and a pull whose record cannot be written fails. A kill between the two leaves the record alone.
   */
  readonly recordFile?: string | undefined;
  /** The time in the record; the clock's unless told. */
  readonly now?: (() => Date) | undefined;
}

export type PullEvent =
  | UnpackEvent
  | { readonly kind: "admitted"; readonly image: AdmittedImage }
  | { readonly kind: "opened"; readonly layers: readonly LayerOpening[] };

export interface PullOptions extends CallOptions {
  readonly onEvent?: ((event: PullEvent) => void) | undefined;
}

/** How one layer was opened. */
export type LayerOpening =
  | { readonly kind: "plain"; readonly digest: Digest }
  | {
      readonly kind: "decrypted";
      readonly digest: Digest;
      readonly cipher: CipherName;
      readonly scheme: KeyPacket["scheme"];
      readonly openedBy: string;
    }
  | { readonly kind: "kept-encrypted"; readonly digest: Digest };

/** What was pulled, who vouched for it, and how it was opened. */
export interface PullReport {
  readonly source: string;
  readonly image: AdmittedImage;
  readonly layers: readonly LayerOpening[];
  readonly measurement: "measured" | "not-asked-for";
  readonly result: UnpackReport | LayoutReport;
}

/**
 * The guest's pull, all or nothing: resolve, then who vouches for it, then keys (and with them attestation), then
 * each layer: fetch and verify, decrypt verified, inflate, diffID, unpack in a private directory, measure, record, and one rename.
 *
 * Whatever can be wrong without a key is found before a key is asked for. When it throws, the target is as it was and
 * nothing is left beside it. Throws `ERR_SIGNATURE_*`, `ERR_LAYER_*`, `ERR_CIPHER_*`, `ERR_KEYWRAP_*`, those of this room
 * and of the store.
 */
export async function pullImage(request: PullRequest, options: PullOptions = {}): Promise<PullReport> {
  const { store, output } = request;
  if (request.recordFile !== undefined) checkRecordFile(request.recordFile, request.target);
  const image = await admitImage(request, options);
  options.onEvent?.({ kind: "admitted", image });
  const opened = await readImage(store, image.manifest, request.platform, options);
  for (const layer of opened.manifest.layers) {
    if (isEncryptedLayer(layer)) checkPlainLayer({ ...layer, annotations: {}, mediaType: checkSealedLayer(layer).mediaType });
    else checkPlainLayer(layer);
  }
  const seal = request.seal === undefined ? undefined : await demandSeal({ store, verification: request.verification, image }, options);
  const sealed = output === "oci-encrypted" ? [] : opened.manifest.layers.filter(isEncryptedLayer);
  // One thread deciphers and hashes both sides of that, one inflates and hashes: this one receives and writes.
  const threads = new CipherThreads({ threads: 1, total: sealed.reduce((sum, { size }) => sum + size, 0) });
  try {
    return await pullOpened({ request, image, opened, seal, threads }, options);
  } finally {
    await threads.close();
  }
}

interface Opening {
  readonly request: PullRequest;
  readonly image: AdmittedImage;
  readonly opened: OpenedImage;
  readonly seal: VerifiedSeal | undefined;
  readonly threads: CipherThreads;
}

async function pullOpened(opening: Opening, options: PullOptions): Promise<PullReport> {
  const { request, image, opened, seal, threads } = opening;
  const { store, output } = request;
  const layers = output === "oci-encrypted" ? [] : await openLayers(opening, options);
  const openings = opened.manifest.layers.map((layer, index) => openingOf(layer, layers[index], output));
  options.onEvent?.({ kind: "opened", layers: openings });
  const cache = request.layerCache === undefined ? undefined : new LayerCache(request.layerCache);
  const inflater = new InflateThread();
  const streams = new LayerStreams(
    { store, layers: opened.manifest.layers, opened: layers, cache, threads, inflater, readAhead: request.readAhead },
    options,
  );
  const name = request.name ?? store.name;
  const measurement = request.measure === undefined ? "not-asked-for" : "measured";
  const reportOf = (result: PullReport["result"]): PullReport => ({ source: name, image, layers: openings, measurement, result });
  let record: StagedRecord | undefined;
  const beforeCommit = async (result: PullReport["result"]) => {
    const { recordFile, measure, now = () => new Date() } = request;
    if (recordFile !== undefined) record = stageRecord(recordFile, recordOf(reportOf(result), now()));
    await measure?.({ image: name, digest: image.manifest.digest }, options);
    record?.publish();
  };
  try {
    const source = seal === undefined ? streams.source : sealedSource(seal, opened.manifest.layers, layers, streams.source);
    const result =
      output === "rootfs" || output === "bundle" || output === "overlay"
        ? await unpackLayers({ ...request, output, image: opened, source, beforeCommit }, options)
        : await writeLayout({ ...request, output, image: opened, manifest: image.manifest, source, beforeCommit }, options);
    return reportOf(result);
  } catch (error) {
    throw record === undefined ? error : cleanedUp(error, request.recordFile ?? "", () => record?.withdraw());
  } finally {
    await streams.close();
    await inflater.close();
  }
}

/** Unwraps the keys of all encrypted layers, before any of them is fetched. `undefined` for plain layers. */
async function openLayers(
  { request, image, opened, threads }: Opening,
  options: CallOptions,
): Promise<readonly (OpenedLayer | undefined)[]> {
  const { layers } = opened.manifest;
  if (!layers.some(isEncryptedLayer)) return [];
  const unwrappers = await request.openKeys(image, options);
  const results: (OpenedLayer | undefined)[] = [];
  // One after the other: the first layer brings the key of all, and a refusal must not be asked for again.
  for (const layer of layers) {
    results.push(isEncryptedLayer(layer) ? await openLayer({ layer, unwrappers, engine: request.engine, threads }, options) : undefined);
  }
  return results;
}

function openingOf(layer: Descriptor, opened: OpenedLayer | undefined, output: PullOutput): LayerOpening {
  const { digest } = layer;
  if (!isEncryptedLayer(layer)) return { kind: "plain", digest };
  if (opened === undefined || output === "oci-encrypted") return { kind: "kept-encrypted", digest };
  return { kind: "decrypted", digest, cipher: opened.cipher, scheme: opened.packet.scheme, openedBy: opened.openedBy };
}
