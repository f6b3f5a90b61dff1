import { Readable } from "node:stream";
import { collect, compose, digestOf, verifyContent, type Digest } from "../../src/bytes/index.ts";
import { isManifestMediaType, mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { StoreError, type ContentStore } from "../../src/store/index.ts";

/** A repository of a real registry on loopback, with no more than signing needs. */
export function httpStore(host: string, repository: string): ContentStore {
  const base = `http://${host}/v2/${repository}`;
  const name = `docker://${host}/${repository}`;
  const accept = [mediaTypes.manifest, mediaTypes.index, mediaTypes.dockerManifest, mediaTypes.dockerIndex].join(", ");
  const getManifest = async (reference: string): Promise<{ descriptor: Descriptor; bytes: Buffer }> => {
    const response = await fetch(`${base}/manifests/${reference}`, { headers: { accept } });
    const bytes = Buffer.from(await response.arrayBuffer());
    if (response.status === 404) throw new StoreError("ERR_STORE_NOT_FOUND", { message: `${reference} is not in ${name}` });
    if (!response.ok) throw new Error(`GET ${reference}: ${response.status} ${bytes.toString().slice(0, 200)}`);
    return { bytes, descriptor: { mediaType: response.headers.get("content-type") ?? "", digest: digestOf(bytes), size: bytes.length } };
  };
  const putManifest = async (bytes: Buffer, mediaType: string, reference: string): Promise<void> => {
    const response = await fetch(`${base}/manifests/${reference}`, { method: "PUT", headers: { "content-type": mediaType }, body: bytes });
    const text = await response.text();
    if (!response.ok) throw new Error(`PUT ${reference}: ${response.status} ${text.slice(0, 200)}`);
  };
  const fallbackTag = (digest: string) => digest.replace(":", "-");
  const readIndex = async (digest: string): Promise<{ manifests: Descriptor[] }> => {
    try {
      return JSON.parse((await getManifest(fallbackTag(digest))).bytes.toString()) as { manifests: Descriptor[] };
    } catch (error) {
      if (error instanceof StoreError) return { manifests: [] };
      throw error;
    }
  };
  return {
    name,
    resolve: async (reference) => (await getManifest(reference ?? "latest")).descriptor,
    fetch: async (target) => {
      if (isManifestMediaType(target.mediaType)) {
        return compose(Readable.from([(await getManifest(target.digest)).bytes], { objectMode: false }), verifyContent(target));
      }
      const response = await fetch(`${base}/blobs/${target.digest}`);
      const bytes = Buffer.from(await response.arrayBuffer());
      if (response.status === 404) throw new StoreError("ERR_STORE_NOT_FOUND", { message: `${target.digest} is not in ${name}` });
      return compose(Readable.from([bytes], { objectMode: false }), verifyContent(target));
    },
    exists: async (target) => (await fetch(`${base}/blobs/${target.digest}`, { method: "HEAD" })).ok,
    referrers: async (subject) => (await readIndex(subject.digest)).manifests,
    tags: async () => [],
    localPath: () => undefined,
    push: async (target, source) => {
      const bytes = await collect(compose(await source(), verifyContent(target)), { maxBytes: 1 << 26 });
      if (isManifestMediaType(target.mediaType)) {
        await putManifest(bytes, target.mediaType, target.digest);
        const { subject, artifactType, annotations } = JSON.parse(bytes.toString()) as {
          subject?: Descriptor;
          artifactType?: string;
          annotations?: Record<string, string>;
        };
        if (subject !== undefined) {
          const { manifests } = await readIndex(subject.digest);
          const entry = {
            ...target,
            ...(artifactType === undefined ? {} : { artifactType }),
            ...(annotations === undefined ? {} : { annotations }),
          };
          const merged = [...manifests.filter(({ digest }) => digest !== target.digest), entry];
          await putManifest(
            serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: merged }),
            mediaTypes.index,
            fallbackTag(subject.digest),
          );
        }
        return "pushed";
      }
      if ((await fetch(`${base}/blobs/${target.digest}`, { method: "HEAD" })).ok) return "present";
      const start = await fetch(`${base}/blobs/uploads/`, { method: "POST" });
      await start.text();
      const location = new URL(start.headers.get("location") ?? "", base);
      location.searchParams.set("digest", target.digest);
      const done = await fetch(location, { method: "PUT", headers: { "content-type": "application/octet-stream" }, body: bytes });
      await done.text();
      if (!done.ok) throw new Error(`PUT blob: ${done.status}`);
      return "pushed";
    },
    ingest: async () => {
      throw new Error("not needed");
    },
    tag: async (target, reference) => putManifest((await getManifest(target.digest)).bytes, target.mediaType, reference),
    remove: async () => "absent",
    close: async () => undefined,
  };
}

/** Descriptor of a digest alone. */
export function digestOnly(text: string): Digest {
  return text as Digest;
}
