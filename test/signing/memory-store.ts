import { Readable } from "node:stream";
import { collect, compose, verifyContent, type Digest } from "../../src/bytes/index.ts";
import { isManifestMediaType, type Descriptor } from "../../src/oci/index.ts";
import { StoreError, type ContentStore } from "../../src/store/index.ts";

export interface MemoryStore extends ContentStore {
  readonly contents: Map<string, Buffer>;
  readonly types: Map<string, string>;
  readonly names: Map<string, string>;
}

/** A store with no more than signing needs. */
export function tinyStore(name = "memory:test"): MemoryStore {
  const contents = new Map<string, Buffer>();
  const types = new Map<string, string>();
  const names = new Map<string, string>();
  const missing = (what: string) => new StoreError("ERR_STORE_NOT_FOUND", { message: `${what} is not in ${name}` });
  const describe = (digest: string): Descriptor => {
    const bytes = contents.get(digest);
    if (bytes === undefined) throw missing(digest);
    return { mediaType: types.get(digest) ?? "application/octet-stream", digest: digest as Digest, size: bytes.length };
  };
  return {
    name,
    contents,
    types,
    names,
    resolve: async (reference) => {
      const digest = reference?.includes(":") ? reference : names.get(reference ?? "");
      if (digest === undefined) throw missing(reference ?? "image");
      return describe(digest);
    },
    fetch: async (target) => {
      const bytes = contents.get(target.digest);
      if (bytes === undefined) throw missing(target.digest);
      return compose(Readable.from([bytes], { objectMode: false }), verifyContent(target));
    },
    exists: async ({ digest }) => contents.has(digest),
    referrers: async (subject) =>
      [...contents]
        .filter(([digest]) => isManifestMediaType(types.get(digest) ?? ""))
        .filter(([, bytes]) => (JSON.parse(bytes.toString()) as { subject?: Descriptor }).subject?.digest === subject.digest)
        .map(([digest]) => describe(digest)),
    tags: async () => [...names.keys()].sort(),
    localPath: () => undefined,
    push: async (target, source) => {
      if (contents.has(target.digest)) return "present";
      contents.set(target.digest, await collect(compose(await source(), verifyContent(target)), { maxBytes: 1 << 26 }));
      types.set(target.digest, target.mediaType);
      return "pushed";
    },
    ingest: async () => {
      throw new Error("not needed");
    },
    tag: async ({ digest }, reference) => void names.set(reference, digest),
    remove: async (target) => ((typeof target === "string" ? names.delete(target) : contents.delete(target.digest)) ? "removed" : "absent"),
    close: async () => undefined,
  };
}
