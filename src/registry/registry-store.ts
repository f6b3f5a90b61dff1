import { Readable } from "node:stream";
import { collect, compose, isDigest, verifyContent, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import { ToolError } from "../errors/index.ts";
import { isManifestMediaType, manifestLimits, type Descriptor } from "../oci/index.ts";
import {
  StoreError,
  type BlobSource,
  type CallOptions,
  type FetchOptions,
  type IngestRequest,
  type PushOutcome,
  type ReadOptions,
  type ReferrersFilter,
} from "../store/index.ts";
import { anonymous, type CredentialSource } from "./credentials.ts";
import { downloadBlob } from "./download.ts";
import { RegistryError } from "./errors.ts";
import { ingestBlob } from "./ingest.ts";
import { ManifestMemory } from "./manifest-memory.ts";
import { fetchManifest, manifestIsThere, parseDocument, putManifest, tooLarge, type FetchedManifest } from "./manifests.ts";
import { checkReference, checkRepository, checkTag } from "./names.ts";
import { registryLimits, type SchemeRule } from "./options.ts";
import { MirroredStore } from "./mirrored-store.ts";
import { routeTo, type Endpoint, type RegistriesConf } from "./registries-conf.ts";
import { describeReferrer, listReferrers, recordReferrer } from "./referrers.ts";
import { ReferrersTagWriter } from "./referrers-tag.ts";
import { RepositoryClient } from "./repository-client.ts";
import { canonicalHost, hub } from "./scheme.ts";
import { scopesOf } from "./scopes.ts";
import type { RegistryStore } from "./store-interface.ts";
import { listTags } from "./tags.ts";
import { RegistryTransport } from "./transport.ts";
import { uploadBlob } from "./upload.ts";
import { cancelUpload, startUpload, type UploadContext } from "./upload-session.ts";
import { blobIsThere } from "./upload-stream.ts";

/** What {@link openRegistry} needs to know. */
export interface RegistryOptions {
  /** `localhost:5000`, `registry-1.docker.io`; `docker.io` means the Hub's API host. */
  readonly host: string;
  /** `library/alpine`. */
  readonly repository: string;
  readonly credentials?: CredentialSource | undefined;
  /** registries.conf: mirrors for reading, other locations, blocked namespaces. */
  readonly registriesConf?: RegistriesConf | undefined;
  /** Connections, limits and tokens, shared by all stores of a process and closed by who made it. Without one the store makes its own. */
  readonly transport?: RegistryTransport | undefined;
}

/**
 * Opens one repository. Nothing is sent before the first use.
 *
 * Without a `transport` in the options the store makes its own and closes it with `close()`; a shared transport is
 * closed by who made it. Throws `ERR_REGISTRY_NAME_MALFORMED`.
 */
export function openRegistry(options: RegistryOptions): RegistryStore {
  const route = routeTo(options.registriesConf, options.host, options.repository);
  // One memory for all places: a manifest that the registry named for a tag need not be asked for at a mirror again.
  const manifests = new ManifestMemory();
  const names = { host: referenceHost(options.host), repository: options.repository };
  const at = ({ host, repository, insecure }: Endpoint, namespace: string | undefined) =>
    new Repository({ ...options, host, repository }, manifests, { rule: insecure ? "insecure" : undefined, namespace });
  const primary = at(route.primary, undefined);
  if (route.mirrors.length === 0) return primary;
  const mirrors = route.mirrors.map((mirror) => ({ store: at(mirror, names.host), use: mirror.use }));
  return new MirroredStore(primary, mirrors, names, (notice) => options.transport?.notify(notice));
}

/** The host as references and credentials name it: the Hub as `docker.io`. */
function referenceHost(host: string): string {
  const canonical = canonicalHost(host);
  return canonical === hub.host ? "docker.io" : canonical;
}

class Repository implements RegistryStore {
  readonly name: string;
  readonly host: string;
  readonly repository: string;
  readonly #options: RegistryOptions;
  readonly #transport: RegistryTransport;
  readonly #manifests: ManifestMemory;
  #opening: Promise<RepositoryClient> | undefined;
  /** The registry said of a blob that it is there, and then that it is unknown. */
  #headLies = false;

  readonly #place: { readonly rule: SchemeRule | undefined; readonly namespace: string | undefined };

  constructor(
    options: RegistryOptions,
    manifests: ManifestMemory,
    place: { readonly rule: SchemeRule | undefined; readonly namespace: string | undefined },
  ) {
    this.#manifests = manifests;
    this.#place = place;
    this.host = referenceHost(options.host);
    this.repository = checkRepository(options.repository);
    this.name = `docker://${this.host}/${options.repository}`;
    this.#options = options;
    this.#transport = options.transport ?? new RegistryTransport();
  }

  async resolve(reference: string | undefined, options: ReadOptions = {}): Promise<Descriptor> {
    const text = checkReference(reference ?? "latest");
    return (await this.#manifest(text, undefined, options)).descriptor;
  }

  async fetch(target: Descriptor, options: FetchOptions = {}): Promise<ByteStream> {
    if (!isManifestMediaType(target.mediaType))
      return downloadBlob(await this.#client(), target, this.#subject("blob", target.digest), options);
    const { bytes } = await this.#manifest(target.digest, target, options);
    const { range } = options;
    return Readable.from([range === undefined ? bytes : bytes.subarray(range.start, range.end)], { objectMode: false });
  }

  async exists(target: Descriptor, options: CallOptions = {}): Promise<boolean> {
    const client = await this.#client();
    if (!isManifestMediaType(target.mediaType)) return blobIsThere(this.#upload(client, target.digest, options), target);
    return manifestIsThere(client, target, this.#subject("manifest", target.digest), options);
  }

  async referrers(subject: Descriptor, filter: ReferrersFilter = {}): Promise<readonly Descriptor[]> {
    return listReferrers(await this.#client(), subject, this.name, filter);
  }

  async tags(options: CallOptions = {}): Promise<readonly string[]> {
    return listTags(await this.#client(), this.name, options);
  }

  localPath(): string | undefined {
    return undefined;
  }

  push(target: Descriptor, source: BlobSource, options: CallOptions = {}): Promise<PushOutcome> {
    return this.pushFrom(target, source, undefined, options);
  }

  async pushFrom(
    target: Descriptor,
    source: BlobSource,
    fromRepository: string | undefined,
    options: CallOptions = {},
  ): Promise<PushOutcome> {
    const client = await this.#writing();
    if (isManifestMediaType(target.mediaType)) return this.#pushManifest(client, target, source, options);
    const context = this.#upload(client, target.digest, options);
    if (!this.#headLies && (await blobIsThere(context, target))) return "present";
    return uploadBlob(context, target, source, fromRepository === this.repository ? undefined : fromRepository);
  }

  async mount(target: Descriptor, fromRepository: string, options: CallOptions = {}): Promise<"mounted" | "present" | "not-mounted"> {
    const client = await this.#writing();
    const context = this.#upload(client, target.digest, options);
    if (await blobIsThere(context, target)) return "present";
    const session = await startUpload(context, { digest: target.digest, mountFrom: fromRepository });
    if (session === "mounted") return "mounted";
    await cancelUpload(context, session.location);
    return "not-mounted";
  }

  async ingest(source: ByteStream, request: IngestRequest = {}): Promise<ContentAddress> {
    try {
      const client = await this.#writing();
      return await ingestBlob({ client, subject: `new blob for ${this.name}`, signal: request.signal }, source, request);
    } finally {
      source.destroy();
    }
  }

  async tag(target: Descriptor, reference: string, options: CallOptions = {}): Promise<void> {
    // A registry lists an untagged manifest by its digest already; see ContentWriter.tag.
    if (reference === target.digest) return;
    const tag = checkTag(reference);
    const manifest = await this.#manifest(target.digest, target, options);
    await this.#put(manifest, tag, `tag ${tag} of ${this.name}`, options);
  }

  async remove(target: Descriptor | string, options: CallOptions = {}): Promise<"removed" | "absent"> {
    const client = await this.#client();
    const reference = typeof target === "string" ? checkReference(target) : target.digest;
    const isBlob = typeof target !== "string" && !isManifestMediaType(target.mediaType);
    const subjectOf = isBlob || !isDigest(reference) ? undefined : await this.#subjectOf(reference, options);
    const call = {
      method: "DELETE",
      target: `${isBlob ? "blobs" : "manifests"}/${reference}`,
      subject: this.#subject(isBlob ? "blob" : "manifest", reference),
      expect: [202, 204, 404],
      scopes: scopesOf(this.repository, "delete", "pull", "push"),
      ...options,
    } as const;
    const reply = await client.document(call, registryLimits.errorBody).catch((error: unknown) => {
      throw explainDelete(error, call.subject);
    });
    if (isDigest(reference)) this.#manifests.forget(reference);
    if (reply.status === 404) return "absent";
    if (subjectOf !== undefined && isDigest(reference))
      await new ReferrersTagWriter(client, this.name).remove(subjectOf, reference, options);
    return "removed";
  }

  async close(): Promise<void> {
    if (this.#options.transport === undefined) await this.#transport.close();
  }

  async #pushManifest(client: RepositoryClient, target: Descriptor, source: BlobSource, options: CallOptions): Promise<PushOutcome> {
    const subject = this.#subject("manifest", target.digest);
    if (target.size > manifestLimits.maxBytes) throw tooLarge(subject, target.size);
    const stream = compose(await source(), verifyContent(target, subject));
    const bytes = await collect(stream, { maxBytes: manifestLimits.maxBytes, subject });
    const document = parseDocument(bytes, target.mediaType);
    // With a subject it is put again although it is there: the last try may have ended before the referrers were told.
    if (document.subject === undefined && !this.#headLies && (await manifestIsThere(client, target, subject, options))) {
      this.#manifests.remember({ descriptor: target, bytes, document });
      return "present";
    }
    await this.#put({ descriptor: target, bytes, document }, target.digest, subject, options);
    return "pushed";
  }

  async #put(manifest: FetchedManifest, reference: string, subject: string, options: CallOptions): Promise<void> {
    const client = await this.#writing();
    const { descriptor, bytes, document } = manifest;
    const put = () => putManifest(client, { descriptor, bytes }, reference, subject, options);
    const result = await put().catch((error: unknown) => {
      if (error instanceof RegistryError && error.code === "ERR_REGISTRY_BLOB_UNKNOWN") this.#headLies = true;
      throw error;
    });
    this.#manifests.remember(manifest);
    if (document.subject === undefined || !isDigest(reference)) return;
    await recordReferrer({ client, name: this.name, put }, document.subject, describeReferrer(descriptor, document), result, options);
  }

  async #manifest(reference: string, expected: Descriptor | undefined, options: ReadOptions): Promise<FetchedManifest> {
    const known = isDigest(reference) && options.read !== "afresh" ? this.#manifests.find(reference) : undefined;
    if (known !== undefined && (expected === undefined || expected.mediaType === known.descriptor.mediaType)) return known;
    const fetched = await fetchManifest(await this.#client(), reference, this.#subject("manifest", reference), options, expected);
    this.#manifests.remember(fetched);
    return fetched;
  }

  async #subjectOf(digest: Digest, options: CallOptions): Promise<Digest | undefined> {
    try {
      const { document } = await this.#manifest(digest, undefined, options);
      return document.subject?.digest;
    } catch (error) {
      if (error instanceof StoreError) return undefined;
      throw error;
    }
  }

  #subject(kind: "manifest" | "blob", reference: string): string {
    return `${kind} ${reference} of ${this.name}`;
  }

  #upload(client: RepositoryClient, digest: Digest, options: CallOptions): UploadContext {
    return { client, subject: this.#subject("blob", digest), signal: options.signal };
  }

  #client(): Promise<RepositoryClient> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<RepositoryClient> {
    return new RepositoryClient({
      transport: this.#transport,
      access: await this.#transport.access(this.host, this.#place.rule),
      credentialHost: this.host,
      repository: this.repository,
      credentials: this.#options.credentials ?? anonymous,
      namespace: this.#place.namespace,
    });
  }

  /** From the first write on, tokens are asked for reading and writing, so that one serves the whole job. */
  async #writing(): Promise<RepositoryClient> {
    const client = await this.#client();
    client.auth.want(scopesOf(this.repository, "pull", "push"));
    return client;
  }
}

function explainDelete(error: unknown, subject: string): unknown {
  const status = error instanceof ToolError ? error.details["status"] : undefined;
  // docker-registry 2.8 answers 400 to deleting a tag, and 405 unless deleting is switched on.
  if (status !== 400 && status !== 405) return error;
  return new RegistryError("ERR_REGISTRY_UNSUPPORTED", {
    message: `${subject} cannot be deleted: the registry does not offer that`,
    hint: "many registries delete manifests by digest only, and only where deleting is switched on",
    cause: error,
  });
}
