import { hkdfSync, randomBytes } from "node:crypto";
import { decodeBase64, encodeBase64, parseJson } from "../../bytes/index.ts";
import { isObject } from "../protocol/shape.ts";
import { KbsError } from "../errors.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import { keyIdOf, openRecord, sealRecord, type EncryptionKey } from "./envelope.ts";
import type { RootKey } from "./root-key.ts";

/** Where the wrapped key-encryption keys are kept. */
const keyringRecord = "system/keyring";
const format = "ociseal-kbs-keyring/1";

interface WrappedKey {
  readonly id: string;
  readonly createdAt: string;
  /** The root key that wrapped it. */
  readonly root: string;
  /** Base64. */
  readonly wrapped: string;
}

interface KeyringDocument {
  readonly format: typeof format;
  /** The key that seals new records. */
  readonly active: string;
  readonly keys: readonly WrappedKey[];
}

/** A key-encryption key as an administrator sees it. */
export interface EncryptionKeyInfo {
  readonly id: string;
  readonly createdAt: string;
  readonly root: string;
  readonly active: boolean;
}

/**
 * The middle of the hierarchy: root key -> key-encryption keys -> one data key per record.
 *
 * The key-encryption keys are in memory in the clear while the service runs; the store holds them wrapped by the root.
 * Several replicas share one keyring record; one that meets a key it does not know reads the record again.
 */
export class Keyring {
  readonly #store: SecretStore;
  #roots: readonly [RootKey, ...RootKey[]];
  #document: KeyringDocument;
  #keys: ReadonlyMap<string, EncryptionKey>;
  readonly #derived = new Map<string, readonly EncryptionKey[]>();

  private constructor(
    store: SecretStore,
    roots: readonly [RootKey, ...RootKey[]],
    document: KeyringDocument,
    keys: ReadonlyMap<string, EncryptionKey>,
  ) {
    this.#store = store;
    this.#roots = roots;
    this.#document = document;
    this.#keys = keys;
  }

  /**
   * Opens the store's keyring, or makes the first one.
   *
   * The first root wraps new keys; further ones only open what they wrapped, so that a root is rotated by listing the
   * new one first and calling {@link rewrapUnderFirstRoot}. Throws `ERR_KBS_ROOT_KEY_UNUSABLE` when no root opens it.
   */
  static async open(store: SecretStore, roots: readonly [RootKey, ...RootKey[]]): Promise<Keyring> {
    let record = await store.read(keyringRecord);
    if (record === undefined) {
      const key = await wrapNewKey(roots[0]);
      await store.write(keyringRecord, serialize({ format, active: key.id, keys: [key] }), { kind: "absent" });
      // Whoever came first made it: read back what is there.
      record = await store.read(keyringRecord);
    }
    const document = parseKeyring(record?.bytes ?? Buffer.alloc(0));
    return new Keyring(store, roots, document, await unwrapAll(document, roots));
  }

  /** Seals bytes for a place: the record's key, with the version where it has one. */
  seal(plaintext: Uint8Array, binding: string): Buffer {
    return sealRecord(plaintext, this.#keyOf(this.#document.active), binding);
  }

  /** Opens sealed bytes. Throws `ERR_KBS_RECORD_CORRUPT`. */
  async open(sealed: Uint8Array, binding: string): Promise<Buffer> {
    const id = keyIdOf(sealed, binding);
    if (!this.#keys.has(id)) await this.reload();
    return openRecord(sealed, this.#keyOf(id, binding).secret, binding);
  }

  /** Whether sealed bytes are under the active key. */
  isCurrent(sealed: Uint8Array, binding: string): boolean {
    return keyIdOf(sealed, binding) === this.#document.active;
  }

  /** A secret that all replicas on this store share, one per key-encryption key, newest first. */
  derivedSecrets(purpose: string): readonly EncryptionKey[] {
    const known = this.#derived.get(purpose);
    if (known !== undefined) return known;
    const derived = [...this.#document.keys].reverse().map(({ id }) => ({
      id,
      secret: Buffer.from(hkdfSync("sha256", this.#keyOf(id).secret, "", `ociseal-kbs/1 ${purpose}`, 32)),
    }));
    this.#derived.set(purpose, derived);
    return derived;
  }

  list(): readonly EncryptionKeyInfo[] {
    return this.#document.keys.map(({ id, createdAt, root }) => ({ id, createdAt, root, active: id === this.#document.active }));
  }

  /** Adds a key-encryption key and makes it the active one. Former keys stay until {@link drop}. */
  async addKey(): Promise<EncryptionKeyInfo> {
    const added = await wrapNewKey(this.#roots[0]);
    await this.#change((document) => ({ ...document, active: added.id, keys: [...document.keys, added] }));
    return { id: added.id, createdAt: added.createdAt, root: added.root, active: true };
  }

  /** Forgets a key; whatever is still sealed under it is lost. The active key is refused. */
  async drop(id: string): Promise<void> {
    await this.#change((document) => {
      if (document.active === id) throw new KbsError("ERR_KBS_KEY_UNAVAILABLE", { message: `the key-encryption key ${id} is in use` });
      return { ...document, keys: document.keys.filter((key) => key.id !== id) };
    });
  }

  /**
   * Goes on with other roots, which must open what is there: to rotate a root while the service runs. Throws
   * `ERR_KBS_ROOT_KEY_UNUSABLE` and keeps the former ones when they do not.
   */
  async useRoots(roots: readonly [RootKey, ...RootKey[]]): Promise<void> {
    const former = this.#roots;
    this.#roots = roots;
    try {
      await this.reload();
    } catch (cause) {
      this.#roots = former;
      await closeRoots(roots, former);
      throw cause;
    }
    await closeRoots(former, roots);
  }

  /**
   * Wraps every key under the first root, and under its newest version where it has some; afterwards neither the other
   * roots nor its former versions are needed. Answers how many were rewrapped.
   */
  async rewrapUnderFirstRoot(): Promise<number> {
    const [root] = this.#roots;
    let count = 0;
    await this.#change(async (document) => {
      count = 0;
      const keys: WrappedKey[] = [];
      for (const key of document.keys) {
        const isOurs = key.root === root.id;
        const next = isOurs && root.versionOf === undefined ? key : await wrapKey(root, this.#keyOf(key.id), key.createdAt);
        const isStale = !isOurs || versionOf(root, next) !== versionOf(root, key);
        if (isStale) count += 1;
        keys.push(isStale ? next : key);
      }
      return { ...document, keys };
    });
    return count;
  }

  /** Reads the record again, for another replica may have changed it. */
  async reload(): Promise<void> {
    const record = await this.#store.read(keyringRecord);
    const document = parseKeyring(record?.bytes ?? Buffer.alloc(0));
    this.#keys = await unwrapAll(document, this.#roots);
    this.#document = document;
    this.#derived.clear();
  }

  async close(): Promise<void> {
    for (const { secret } of this.#keys.values()) secret.fill(0);
    for (const root of this.#roots) await root.close?.();
  }

  async #change(edit: (document: KeyringDocument) => KeyringDocument | Promise<KeyringDocument>): Promise<void> {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      await this.reload();
      const record = await this.#store.read(keyringRecord);
      if (record === undefined) break;
      const document = await edit(parseKeyring(record.bytes));
      const outcome = await this.#store.write(keyringRecord, serialize(document), { kind: "revision", revision: record.revision });
      if (outcome !== "conflict") return this.reload();
    }
    throw new KbsError("ERR_KBS_STORE_CONFLICT", { message: "the keyring is being changed by others; try again" });
  }

  #keyOf(id: string, binding?: string): EncryptionKey {
    const key = this.#keys.get(id);
    if (key === undefined) {
      throw new KbsError("ERR_KBS_RECORD_CORRUPT", {
        message: `${binding ?? "a record"} is sealed under the key-encryption key ${id}, which the keyring does not hold`,
      });
    }
    return key;
  }
}

async function closeRoots(roots: readonly RootKey[], kept: readonly RootKey[]): Promise<void> {
  for (const root of roots) if (!kept.includes(root)) await root.close?.();
}

function versionOf(root: RootKey, { wrapped }: WrappedKey): string | undefined {
  return root.versionOf?.(decodeBase64(wrapped));
}

async function wrapNewKey(root: RootKey): Promise<WrappedKey> {
  return wrapKey(root, { id: randomBytes(8).toString("hex"), secret: randomBytes(32) }, new Date().toISOString());
}

async function wrapKey(root: RootKey, key: EncryptionKey, createdAt: string): Promise<WrappedKey> {
  const wrapped = await root.wrap(key.secret, additionalData(key.id));
  return { id: key.id, createdAt, root: root.id, wrapped: encodeBase64(wrapped) };
}

async function unwrapAll(document: KeyringDocument, roots: readonly RootKey[]): Promise<ReadonlyMap<string, EncryptionKey>> {
  const keys = new Map<string, EncryptionKey>();
  for (const { id, root, wrapped } of document.keys) {
    const opener = roots.find((candidate) => candidate.id === root);
    if (opener === undefined) {
      throw new KbsError("ERR_KBS_ROOT_KEY_UNUSABLE", {
        message: `the store's keys are wrapped by the root key ${root}; configured: ${roots.map((candidate) => candidate.id).join(", ")}`,
        hint: "configure the root key that this store was made with; list a new one before it to rotate",
      });
    }
    keys.set(id, { id, secret: await opener.unwrap(decodeBase64(wrapped), additionalData(id)) });
  }
  return keys;
}

function additionalData(id: string): Buffer {
  return Buffer.from(`ociseal-kbs/1 key-encryption-key ${id}`, "utf8");
}

function serialize(document: KeyringDocument): Buffer {
  return Buffer.from(`${JSON.stringify(document)}\n`, "utf8");
}

function parseKeyring(bytes: Buffer): KeyringDocument {
  const value = parseJson(bytes, { maxBytes: 1 << 20, maxDepth: 4, subject: "the keyring record" });
  const keys: WrappedKey[] = [];
  if (!isObject(value) || value["format"] !== format || typeof value["active"] !== "string" || !Array.isArray(value["keys"]))
    throw corruptKeyring();
  for (const key of value["keys"]) {
    if (!isObject(key)) throw corruptKeyring();
    const { id, createdAt, root, wrapped } = key;
    if (typeof id !== "string" || typeof createdAt !== "string" || typeof root !== "string" || typeof wrapped !== "string")
      throw corruptKeyring();
    keys.push({ id, createdAt, root, wrapped });
  }
  return { format, active: value["active"], keys };
}

function corruptKeyring(): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", {
    message: `the record ${keyringRecord} is damaged`,
    hint: "restore it from a backup: without it no other record can be opened",
  });
}
