import { decodeBase64, encodeBase64 } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { memberAt } from "../protocol/shape.ts";
import { KeyedMutex } from "./keyed-mutex.ts";
import { assertRecordKey, pageOf } from "./record-key.ts";
import type { ListRequest, RecordPage, SecretStore, StoredRecord, WriteCondition } from "./secret-store.ts";
import type { JsonAnswer } from "./json-service.ts";
import { VaultSession, type VaultConnection } from "./vault-session.ts";

export interface VaultStoreOptions extends VaultConnection {
  /** Mount of a KV engine of version 2; `secret` unless told. */
  readonly mount?: string | undefined;
  /** Folder below the mount; `ociseal-kbs` unless told. */
  readonly folder?: string | undefined;
}

const maxAttempts = 10;

/**
 * Records in the KV engine, version 2, of Vault or OpenBao. Values are sealed by us all the same: whoever may read the
 * mount reads no key. The engine keeps one version of a record, or what was destroyed would stay there in an older one.
 *
 * Creating and replacing are atomic by the engine's `cas`, also on a mount that demands it. Removing has no `cas` there:
 * the revision is compared first, and within one process in order. The token's policy needs read and update on `data/`,
 * and create, read, update, list and delete on `metadata/` of the folder: metadata come first, so that a record that is
 * written has its limit of versions. Source: Vault HTTP API, "KV secrets engine - version 2".
 */
export function openVaultStore(options: VaultStoreOptions): SecretStore {
  return new VaultStore(new VaultSession(options), options.mount ?? "secret", options.folder ?? "ociseal-kbs");
}

interface Found extends StoredRecord {
  /** 0 when there is none; a deleted record may have more. */
  readonly version: number;
}

class VaultStore implements SecretStore {
  readonly name = "vault";
  readonly #session: VaultSession;
  readonly #mount: string;
  readonly #folder: string;
  readonly #mutex = new KeyedMutex();

  constructor(session: VaultSession, mount: string, folder: string) {
    assertRecordKey(mount);
    assertRecordKey(folder);
    this.#session = session;
    this.#mount = mount;
    this.#folder = folder;
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const found = await this.#find(key);
    return "bytes" in found ? { bytes: found.bytes, revision: found.revision } : undefined;
  }

  async write(key: string, bytes: Uint8Array, condition: WriteCondition): Promise<{ readonly revision: string } | "conflict"> {
    assertRecordKey(key);
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      const found = await this.#find(key);
      const exists = "bytes" in found;
      if (condition.kind === "absent" && exists) return "conflict";
      if (condition.kind === "revision" && (!exists || found.revision !== condition.revision)) return "conflict";
      if (found.version === 0) await this.#keepOneVersion(key);
      const outcome = await this.#put(key, bytes, found.version);
      if (outcome !== "conflict" || condition.kind !== "any") return outcome;
    }
    throw new KbsError("ERR_KBS_STORE_CONFLICT", { message: `${key} is being changed by others; try again` });
  }

  /** `cas` is the version that is there, 0 for none. */
  async #put(key: string, bytes: Uint8Array, cas: number): Promise<{ readonly revision: string } | "conflict"> {
    const answer = await this.#session.call("POST", this.#path("data", key), {
      options: { cas },
      data: { data: encodeBase64(bytes), encoding: "base64" },
    });
    // A cas mismatch is a 400 like any other bad request; only its text tells.
    const text = errorsOf(answer);
    if (answer.status === 400 && text.includes("did not match the current version")) return "conflict";
    // The storage behind Vault has a limit of its own: 1 MiB with Raft, half of that with Consul.
    if (answer.status === 413 || /too large|exceeds the maximum/i.test(text)) {
      throw new KbsError("ERR_KBS_REQUEST_REFUSED", {
        message: `Vault does not take a value of ${bytes.length} bytes`,
        hint: "keep big resources in another store; integrated storage takes some 780000 bytes, unless max_entry_size says more",
      });
    }
    const version = memberAt(answer.value, "data", "version");
    const created = memberAt(answer.value, "data", "created_time");
    if (answer.status !== 200 || typeof version !== "number" || typeof created !== "string") throw this.#failed(`write ${key}`, answer);
    const end = memberAt(answer.value, "data", "deletion_time");
    if (typeof end === "string" && end !== "") {
      throw new KbsError("ERR_KBS_STORE_FAILED", {
        message: `the mount ${this.#mount} deletes records by itself: ${key} at ${end}`,
        hint: `turn that off: vault write ${this.#mount}/config delete_version_after=0s`,
      });
    }
    return { revision: `${version}@${created}` };
  }

  async #keepOneVersion(key: string): Promise<void> {
    const answer = await this.#session.call("POST", this.#path("metadata", key), { max_versions: 1 });
    if (answer.status !== 204 && answer.status !== 200) throw this.#failed(`limit the versions of ${key}`, answer);
  }

  async remove(key: string, condition: WriteCondition): Promise<"removed" | "absent" | "conflict"> {
    return this.#mutex.run(key, async () => {
      const record = await this.read(key);
      if (record === undefined) return "absent";
      if (condition.kind === "absent" || (condition.kind === "revision" && record.revision !== condition.revision)) return "conflict";
      const answer = await this.#session.call("DELETE", this.#path("metadata", key));
      if (answer.status !== 204 && answer.status !== 200) throw this.#failed(`remove ${key}`, answer);
      return "removed";
    });
  }

  async list({ prefix, after, limit }: ListRequest): Promise<RecordPage> {
    const names: string[] = [];
    const walk = async (folder: string): Promise<void> => {
      for (const name of await this.#names(folder)) {
        const key = folder === "" ? name : `${folder}/${name}`;
        if (name.endsWith("/")) await walk(key.slice(0, -1));
        else if (after === undefined || key > after) names.push(key);
      }
    };
    await walk(prefix);
    if (prefix !== "" && (after === undefined || prefix > after)) names.push(prefix);
    // The engine lists all names at once, also of what somebody deleted there: only a page of them is looked at.
    const keys: string[] = [];
    for (const key of names.sort()) {
      if (keys.length > limit) break;
      if ((await this.read(key)) !== undefined) keys.push(key);
    }
    return pageOf(keys, undefined, limit);
  }

  async probe(): Promise<void> {
    const answer = await this.#session.service.call("GET", "/v1/sys/health?standbyok=true&perfstandbyok=true");
    if (answer.status !== 200) throw this.#session.service.away(answer.status === 503 ? "it is sealed" : `health ${answer.status}`);
    // It may be well, and our token ended or the mount gone. Of a record that never is, nothing is read.
    const looked = await this.#session.call("GET", this.#path("metadata", "probe"));
    if (!isAbsent(looked)) throw this.#failed("look for a record", looked);
  }

  close(): Promise<void> {
    return this.#session.close();
  }

  async #find(key: string): Promise<Found | { readonly version: number }> {
    assertRecordKey(key);
    const answer = await this.#session.call("GET", this.#path("data", key));
    const version = memberAt(answer.value, "data", "metadata", "version");
    // A deleted version answers 404 with its metadata; a key that never was, without.
    if (isAbsent(answer)) return { version: typeof version === "number" ? version : 0 };
    const created = memberAt(answer.value, "data", "metadata", "created_time");
    const text = memberAt(answer.value, "data", "data", "data");
    if (answer.status !== 200 || typeof version !== "number" || typeof created !== "string" || typeof text !== "string") {
      throw this.#failed(`read ${key}`, answer);
    }
    return { bytes: decodeBase64(text, `the record ${key}`), revision: `${version}@${created}`, version };
  }

  async #names(folder: string): Promise<readonly string[]> {
    const path = folder === "" ? `${this.#mount}/metadata/${this.#folder}` : this.#path("metadata", folder);
    // The parameter, not the method LIST: proxies pass it.
    const answer = await this.#session.call("GET", `${path}?list=true`);
    if (isAbsent(answer)) return [];
    const names = memberAt(answer.value, "data", "keys");
    if (answer.status !== 200 || !Array.isArray(names)) throw this.#failed("list records", answer);
    return names.map((name: unknown) => {
      if (typeof name !== "string") throw new KbsError("ERR_KBS_STORE_FAILED", { message: "Vault lists a key that is not a text" });
      return name;
    });
  }

  #path(kind: "data" | "metadata", key: string): string {
    return `${this.#mount}/${kind}/${this.#folder}/${key}`;
  }

  #failed(what: string, answer: JsonAnswer): KbsError {
    const { service } = this.#session;
    if (answer.status === 400 && errorsOf(answer).includes("brief period")) return service.away("its KV engine is getting ready");
    return service.failed(what, answer, this.#hintFor(answer));
  }

  #hintFor({ status }: JsonAnswer): string | undefined {
    switch (status) {
      case 307:
        return "a standby points at another server: it may be gone for a moment; for good, let it forward requests or name the active one";
      case 403: {
        const rights = `read and update on ${this.#mount}/data/${this.#folder}/*`;
        return `the token's policy needs ${rights}, and create, read, update, list and delete on ${this.#mount}/metadata/${this.#folder}/*`;
      }
      case 404:
        return `is a KV engine mounted at ${this.#mount}, in this namespace?`;
      // So answers an engine of version 1 what one of version 2 never does.
      case 200:
      case 204:
        return `the engine at ${this.#mount} is not a KV engine of version 2: vault kv enable-versioning ${this.#mount}`;
      default:
        return undefined;
    }
  }
}

/** A record that is not there, or was deleted. A mount or namespace that is not there answers 404 too, and says so. */
function isAbsent({ status, value }: JsonAnswer): boolean {
  const errors = memberAt(value, "errors");
  return status === 404 && ((Array.isArray(errors) && errors.length === 0) || memberAt(value, "data", "metadata") !== undefined);
}

function errorsOf({ value }: JsonAnswer): string {
  return JSON.stringify(memberAt(value, "errors") ?? "");
}
