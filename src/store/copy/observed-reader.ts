import { compose, observeBytes, type ByteStream, type Digest } from "../../bytes/index.ts";
import { isManifestMediaType, type Descriptor } from "../../oci/index.ts";
import type { ContentReader, FetchOptions } from "../content-store.ts";
import { isVerifiedFor, markVerified } from "../verified-stream.ts";
import type { CopyEvent } from "./copy-events.ts";

/**
 * The same store, which tells of the blobs that are read from it: for work that takes them apart instead of copying
 * them. A blob that is read in ranges counts as finished when as many bytes as it has were read.
 */
export function observeReader(store: ContentReader, onProgress: (event: CopyEvent) => void): ContentReader {
  const read = new Map<Digest, number>();
  const fetch = async (target: Descriptor, options?: FetchOptions): Promise<ByteStream> => {
    const stream = await store.fetch(target, options);
    if (isManifestMediaType(target.mediaType)) return stream;
    if (!read.has(target.digest)) {
      read.set(target.digest, 0);
      onProgress({ kind: "found", descriptor: target, role: "blob" });
      onProgress({ kind: "started", descriptor: target });
    }
    const count = (size: number): void => {
      const before = read.get(target.digest) ?? 0;
      read.set(target.digest, before + size);
      onProgress({ kind: "moved", descriptor: target, size });
      if (before < target.size && before + size >= target.size) onProgress({ kind: "finished", descriptor: target, outcome: "pushed" });
    };
    const observed = compose(stream, observeBytes(count));
    return isVerifiedFor(stream, target) ? markVerified(observed, target) : observed;
  };
  return {
    name: store.name,
    resolve: (reference, options) => store.resolve(reference, options),
    fetch,
    exists: (target, options) => store.exists(target, options),
    referrers: (subject, filter) => store.referrers(subject, filter),
    tags: (options) => store.tags(options),
    localPath: (target) => store.localPath(target),
    close: () => store.close(),
  };
}
