import { decodeBase64, encodeBase64 } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { memberAt } from "../protocol/shape.ts";
import { KeyedMutex } from "./keyed-mutex.ts";
import { assertRecordKey, pageOf } from "./record-key.ts";
import type { ListRequest, RecordPage, SecretStore, StoredRecord, WriteCondition } from "./secret-store.ts";
import { VaultSession, type VaultConnection } from "./vault-session.ts";

export interface VaultStoreOptions extends VaultConnection {
  /** Mount of a KV engine of version 2; `secret` unless told. */
  readonly mount?: string | undefined;
  /** Folder below the mount; `ociseal-kbs` unless told. */
  readonly folder?: string | undefined;
}

/**
 * Records in the KV engine, version 2, of Vault or OpenBao. Values are sealed by us all the same: whoever may read the
 * mount reads no key.
 *
 * Creating and replacing are atomic by the engine's `cas`. Removing has no `cas` there: the revision is compared first,
 * and within one process in order. Source: Vault HTTP API, "KV secrets engine - version 2".
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
    let options: { readonly cas?: number } = {};
    if (condition.kind !== "any") {
      const found = await this.#find(key);
      const exists = "bytes" in found;
      if (condition.kind === "absent" ? exists : !exists || found.revision !== condition.revision) return "conflict";
      options = { cas: found.version };
    }
    const answer = await this.#session.call("POST", this.#path("data", key), {
      options,
      data: { data: encodeBase64(bytes), encoding: "base64" },
    });
    // A cas mismatch is a 400 like any other bad request; only its text tells.
    if (answer.status === 400 && JSON.stringify(answer.value ?? "").includes("check-and-set")) return "conflict";
    const version = memberAt(answer.value, "data", "version");
    const created = memberAt(answer.value, "data", "created_time");
    if (answer.status !== 200 || typeof version !== "number" || typeof created !== "string")
      throw this.#session.service.failed(`write ${key}`, answer);
    return { revision: `${version}@${created}` };
  }

  async remove(key: string, condition: WriteCondition): Promise<"removed" | "absent" | "conflict"> {
    return this.#mutex.run(key, async () => {
      const record = await this.read(key);
      if (record === undefined) return "absent";
      if (condition.kind === "absent" || (condition.kind === "revision" && record.revision !== condition.revision)) return "conflict";
      const answer = await this.#session.call("DELETE", this.#path("metadata", key));
      if (answer.status !== 204 && answer.status !== 200) throw this.#session.service.failed(`remove ${key}`, answer);
      return "removed";
    });
  }

  async list({ prefix, after, limit }: ListRequest): Promise<RecordPage> {
    const keys: string[] = [];
    const walk = async (folder: string): Promise<void> => {
      for (const name of await this.#names(folder)) {
        const key = folder === "" ? name : `${folder}/${name}`;
        if (name.endsWith("/")) await walk(key.slice(0, -1));
        else if ((await this.read(key)) !== undefined) keys.push(key);
      }
    };
    await walk(prefix);
    if (prefix !== "" && (await this.read(prefix)) !== undefined) keys.push(prefix);
    return pageOf(keys, after, limit);
  }

  async probe(): Promise<void> {
    const answer = await this.#session.service.call("GET", "/v1/sys/health?standbyok=true&perfstandbyok=true");
    if (answer.status !== 200) throw this.#session.service.away(answer.status === 503 ? "it is sealed" : `health ${answer.status}`);
  }

  close(): Promise<void> {
    return this.#session.close();
  }

  async #find(key: string): Promise<Found | { readonly version: number }> {
    assertRecordKey(key);
    const answer = await this.#session.call("GET", this.#path("data", key));
    const version = memberAt(answer.value, "data", "metadata", "version");
    // A deleted version answers 404 with its metadata; a key that never was, without.
    if (answer.status === 404) return { version: typeof version === "number" ? version : 0 };
    const created = memberAt(answer.value, "data", "metadata", "created_time");
    const text = memberAt(answer.value, "data", "data", "data");
    if (answer.status !== 200 || typeof version !== "number" || typeof created !== "string" || typeof text !== "string") {
      throw this.#session.service.failed(`read ${key}`, answer);
    }
    return { bytes: decodeBase64(text, `the record ${key}`), revision: `${version}@${created}`, version };
  }

  async #names(folder: string): Promise<readonly string[]> {
    const path = folder === "" ? `${this.#mount}/metadata/${this.#folder}` : this.#path("metadata", folder);
    // The parameter, not the method LIST: proxies pass it.
    const answer = await this.#session.call("GET", `${path}?list=true`);
    if (answer.status === 404) return [];
    const names = memberAt(answer.value, "data", "keys");
    if (answer.status !== 200 || !Array.isArray(names)) throw this.#session.service.failed("list records", answer);
    return names.map((name: unknown) => {
      if (typeof name !== "string") throw new KbsError("ERR_KBS_STORE_FAILED", { message: "Vault lists a key that is not a text" });
      return name;
    });
  }

  #path(kind: "data" | "metadata", key: string): string {
    return `${this.#mount}/${kind}/${this.#folder}/${key}`;
  }
}
