import { Readable } from "node:stream";
import { collect, digestOf } from "../bytes/index.ts";
import { manifestLimits, type Descriptor } from "../oci/index.ts";
import { StoreError, type CallOptions, type ContentReader, type ContentStore, type PushOutcome } from "../store/index.ts";

/** Reads a small manifest or blob whole; digest and size are verified by the store. */
export async function fetchBytes(store: ContentReader, target: Descriptor, maxBytes: number, options: CallOptions): Promise<Buffer> {
  return await collect(await store.fetch(target, options), { maxBytes, subject: `${target.digest} of ${store.name}` });
}

export async function fetchManifestBytes(store: ContentReader, target: Descriptor, options: CallOptions): Promise<Buffer> {
  return await fetchBytes(store, target, manifestLimits.maxBytes, options);
}

/** Names bytes that we made. */
export function describe(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

export async function pushBytes(store: ContentStore, target: Descriptor, bytes: Uint8Array, options: CallOptions): Promise<PushOutcome> {
  return await store.push(target, () => Promise.resolve(Readable.from([bytes], { objectMode: false })), options);
}

/** What a tag names, or `undefined` where there is no such tag. Every other failure is thrown: it is not "no signatures". */
export async function resolveIfPresent(store: ContentReader, reference: string, options: CallOptions): Promise<Descriptor | undefined> {
  try {
    return await store.resolve(reference, options);
  } catch (error) {
    if (error instanceof StoreError && error.code === "ERR_STORE_NOT_FOUND") return undefined;
    throw error;
  }
}
