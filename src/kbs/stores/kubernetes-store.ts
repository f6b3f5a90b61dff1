import { createHash } from "node:crypto";
import { decodeBase64, encodeBase64 } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { memberAt } from "../protocol/shape.ts";
import { readCredential } from "./credential-file.ts";
import { JsonService, type JsonAnswer } from "./json-service.ts";
import { assertRecordKey, isBelow, pageOf } from "./record-key.ts";
import type { ListRequest, RecordPage, SecretStore, StoredRecord, WriteCondition } from "./secret-store.ts";

export interface KubernetesStoreOptions {
  /** `https://10.0.0.1:443`; in a pod, made of `KUBERNETES_SERVICE_HOST` and `_PORT` by whoever reads the environment. */
  readonly url: string;
  /** Where the Secrets are. */
  readonly namespace: string;
  /** Read again for each request, for Kubernetes rotates it. */
  readonly tokenFile: string;
  /** PEM of the cluster's authority. */
  readonly authorities?: string | undefined;
  /** Tells several services in one namespace apart; `ociseal-kbs` unless told. */
  readonly instance?: string | undefined;
}

const keyAnnotation = "ociseal.dev/record-key";
const instanceLabel = "app.kubernetes.io/instance";
const managedByLabel = "app.kubernetes.io/managed-by";
/** A Secret holds 1 MiB; room is left for what base64 and metadata add on the way. Source: Kubernetes API, Secret. */
const maxValueBytes = 1_000_000;
const pageSize = 500;
const maxListings = 3;

/**
 * Records as Secrets of one namespace, values sealed by us. For some thousand records; a listing reads all metadata.
 *
 * A Secret's name is a hash, for names there are short and lower case; the record's key is an annotation, and what is
 * sealed is bound to it. Compare-and-set is `resourceVersion`. Source: Kubernetes API conventions, "Concurrency Control".
 */
export function openKubernetesStore(options: KubernetesStoreOptions): SecretStore {
  return new KubernetesStore(options);
}

class KubernetesStore implements SecretStore {
  readonly name: string;
  readonly #service: JsonService;
  readonly #base: string;
  readonly #tokenFile: string;
  readonly #instance: string;

  constructor(options: KubernetesStoreOptions) {
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(options.namespace))
      throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: "not the name of a Kubernetes namespace" });
    // It goes into a label and a selector of labels. Source: Kubernetes, "Labels and Selectors", syntax.
    if (options.instance !== undefined && !/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/.test(options.instance))
      throw new KbsError("ERR_KBS_CONFIG_INVALID", {
        message: "the instance is not the value of a Kubernetes label (at most 63 characters)",
      });
    this.name = `kubernetes ${options.namespace}`;
    this.#service = new JsonService({ url: options.url, name: "Kubernetes", authorities: options.authorities });
    this.#base = `/api/v1/namespaces/${options.namespace}/secrets`;
    this.#tokenFile = options.tokenFile;
    this.#instance = options.instance ?? "ociseal-kbs";
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    assertRecordKey(key);
    const answer = await this.#call("GET", `/${this.#nameOf(key)}`);
    if (answer.status === 404) return undefined;
    const text = memberAt(answer.value, "data", "value");
    const revision = memberAt(answer.value, "metadata", "resourceVersion");
    if (answer.status !== 200 || typeof text !== "string" || typeof revision !== "string") throw this.#failed(`read ${key}`, answer);
    return { bytes: decodeBase64(text, `the record ${key}`), revision };
  }

  async write(key: string, bytes: Uint8Array, condition: WriteCondition): Promise<{ readonly revision: string } | "conflict"> {
    assertRecordKey(key);
    if (bytes.length > maxValueBytes) {
      throw new KbsError("ERR_KBS_REQUEST_REFUSED", {
        message: `a Kubernetes Secret holds at most ${maxValueBytes} bytes`,
        hint: "keep big resources in another store",
      });
    }
    switch (condition.kind) {
      case "absent":
        return this.#create(key, bytes);
      case "revision":
        return this.#replace(key, bytes, condition.revision);
      case "any":
        // Either may lose against another writer; then the other one fits.
        for (let attempt = 0; attempt < 10; attempt += 1) {
          const existing = await this.read(key);
          const outcome = existing === undefined ? await this.#create(key, bytes) : await this.#replace(key, bytes, existing.revision);
          if (outcome !== "conflict") return outcome;
        }
        throw new KbsError("ERR_KBS_STORE_CONFLICT", { message: `${key} is being changed by others; try again` });
    }
  }

  async remove(key: string, condition: WriteCondition): Promise<"removed" | "absent" | "conflict"> {
    assertRecordKey(key);
    if (condition.kind === "absent") return (await this.read(key)) === undefined ? "absent" : "conflict";
    const preconditions =
      condition.kind === "revision"
        ? { json: { apiVersion: "v1", kind: "DeleteOptions", preconditions: { resourceVersion: condition.revision } } }
        : {};
    const answer = await this.#call("DELETE", `/${this.#nameOf(key)}`, preconditions);
    if (answer.status === 404) return "absent";
    if (answer.status === 409) return "conflict";
    if (answer.status !== 200 && answer.status !== 202) throw this.#failed(`remove ${key}`, answer);
    return "removed";
  }

  async list({ prefix, after, limit }: ListRequest): Promise<RecordPage> {
    for (let attempt = 0; attempt < maxListings; attempt += 1) {
      const keys = await this.#keysBelow(prefix);
      if (keys !== "gone") return pageOf(keys, after, limit);
    }
    throw this.#service.away("its listings end before they are read");
  }

  /** `gone`: the snapshot that a listing pages through is kept for some minutes, and was let go. */
  async #keysBelow(prefix: string): Promise<readonly string[] | "gone"> {
    const keys: string[] = [];
    let next: string | undefined;
    do {
      const more = next === undefined ? "" : `&continue=${encodeURIComponent(next)}`;
      const answer = await this.#listing(`limit=${pageSize}${more}`);
      if (answer.status === 410 && next !== undefined) return "gone";
      for (const item of this.#itemsOf(answer)) {
        const key = memberAt(item, "metadata", "annotations", keyAnnotation);
        if (typeof key === "string" && isBelow(key, prefix)) keys.push(key);
      }
      const continued = memberAt(answer.value, "metadata", "continue");
      next = typeof continued === "string" && continued !== "" ? continued : undefined;
    } while (next !== undefined);
    return keys;
  }

  async probe(): Promise<void> {
    this.#itemsOf(await this.#listing("limit=1"));
  }

  /** Metadata alone: the values of thousands of Secrets are not needed to name them. */
  #listing(query: string): Promise<JsonAnswer> {
    const selector = encodeURIComponent(`${managedByLabel}=ociseal-kbs,${instanceLabel}=${this.#instance}`);
    const headers = { accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json" };
    return this.#call("GET", `?labelSelector=${selector}&${query}`, { headers });
  }

  #itemsOf(answer: JsonAnswer): readonly unknown[] {
    const items = memberAt(answer.value, "items");
    // The API server writes an empty list of metadata as null: a slice of Go that nobody made.
    if (answer.status === 200 && items === null && memberAt(answer.value, "kind") === "PartialObjectMetadataList") return [];
    if (answer.status !== 200 || !Array.isArray(items)) throw this.#failed("list records", answer);
    return items;
  }

  close(): Promise<void> {
    return this.#service.close();
  }

  async #create(key: string, bytes: Uint8Array): Promise<{ readonly revision: string } | "conflict"> {
    const answer = await this.#call("POST", "", { json: this.#secret(key, bytes, undefined) });
    if (answer.status === 404) throw this.#service.failed(`write ${key}`, answer, "is there a namespace of this name?");
    return this.#outcome(key, answer);
  }

  async #replace(key: string, bytes: Uint8Array, revision: string): Promise<{ readonly revision: string } | "conflict"> {
    const answer = await this.#call("PUT", `/${this.#nameOf(key)}`, { json: this.#secret(key, bytes, revision) });
    return answer.status === 404 ? "conflict" : this.#outcome(key, answer);
  }

  /** 409: exists already, or changed. */
  #outcome(key: string, answer: JsonAnswer): { readonly revision: string } | "conflict" {
    if (answer.status === 409) return "conflict";
    const revision = memberAt(answer.value, "metadata", "resourceVersion");
    if ((answer.status !== 200 && answer.status !== 201) || typeof revision !== "string") throw this.#failed(`write ${key}`, answer);
    return { revision };
  }

  #failed(what: string, answer: JsonAnswer): KbsError {
    switch (answer.status) {
      case 401:
        // What the kubelet puts there next will do: a token that it could not renew in time has ended.
        return this.#service.away("it does not take the token of the service account (status 401)");
      case 403:
        return this.#service.failed(what, answer, "the service account needs get, list, create, update and delete on Secrets there");
      default:
        return this.#service.failed(what, answer);
    }
  }

  #secret(key: string, bytes: Uint8Array, resourceVersion: string | undefined): unknown {
    return {
      apiVersion: "v1",
      kind: "Secret",
      type: "ociseal.dev/kbs-record",
      metadata: {
        name: this.#nameOf(key),
        labels: { [managedByLabel]: "ociseal-kbs", [instanceLabel]: this.#instance },
        annotations: { [keyAnnotation]: key },
        ...(resourceVersion === undefined ? {} : { resourceVersion }),
      },
      data: { value: encodeBase64(bytes) },
    };
  }

  #nameOf(key: string): string {
    return `kbs-${createHash("sha256").update(`${this.#instance}\0${key}`).digest("hex")}`;
  }

  async #call(
    method: string,
    path: string,
    more: { readonly headers?: Record<string, string>; readonly json?: unknown } = {},
  ): Promise<JsonAnswer> {
    const token = await readCredential(this.#tokenFile);
    return this.#service.call(method, `${this.#base}${path}`, { ...more, headers: { ...more.headers, authorization: `Bearer ${token}` } });
  }
}
