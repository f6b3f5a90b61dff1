import { parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import type { Keyring } from "../keys/keyring.ts";
import { isObject } from "../protocol/shape.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import { generateSigningKey, parseSigningKey, type SigningKey } from "./signing-key.ts";

interface KeptKey {
  readonly createdAt: string;
  readonly pem: string;
  /** PEM certificates, leaf first. */
  readonly chain: string;
}

export interface SigningKeyEntry {
  readonly key: SigningKey;
  readonly createdAt: string;
  readonly chain: string;
}

/** Makes the certificate chain of a new key; an empty text when it has none. */
export type Certify = (key: SigningKey, now: Date) => string;

/**
 * The signing keys for one purpose, sealed in the store so that all replicas sign and verify with the same ones.
 *
 * The first key signs; the others still verify. Rotation puts a new one in front and keeps the former ones as long as
 * tokens of theirs live.
 */
export class SigningKeys {
  readonly #store: SecretStore;
  readonly #keyring: Keyring;
  readonly #record: string;
  #entries: readonly [SigningKeyEntry, ...SigningKeyEntry[]];

  private constructor(store: SecretStore, keyring: Keyring, record: string, entries: readonly [SigningKeyEntry, ...SigningKeyEntry[]]) {
    this.#store = store;
    this.#keyring = keyring;
    this.#record = record;
    this.#entries = entries;
  }

  static async open(
    store: SecretStore,
    keyring: Keyring,
    request: { readonly purpose: string; readonly algorithm: "ES256" | "EdDSA"; readonly now: Date; readonly certify?: Certify },
  ): Promise<SigningKeys> {
    const record = `system/signing-${request.purpose}`;
    if ((await store.read(record)) === undefined) {
      const made = newKey(request.algorithm, request.now, request.certify);
      await store.write(record, keyring.seal(serialize([made]), record), { kind: "absent" });
    }
    return new SigningKeys(store, keyring, record, await load(store, keyring, record));
  }

  get active(): SigningKeyEntry {
    return this.#entries[0];
  }

  get all(): readonly SigningKeyEntry[] {
    return this.#entries;
  }

  byKid(kid: string): SigningKeyEntry | undefined {
    return this.#entries.find(({ key }) => key.kid === kid);
  }

  /** Another replica may have rotated. */
  async reload(): Promise<void> {
    this.#entries = await load(this.#store, this.#keyring, this.#record);
  }

  /** Puts a new key in front and forgets those made before `keepSince`, except the one that was active until now. */
  async rotate(request: {
    readonly algorithm: "ES256" | "EdDSA";
    readonly now: Date;
    readonly keepSince: Date;
    readonly certify?: Certify;
  }): Promise<SigningKeyEntry> {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const record = await this.#store.read(this.#record);
      if (record === undefined) break;
      const kept = parseKeys(await this.#keyring.open(record.bytes, this.#record), this.#record);
      const former = kept.filter(({ createdAt }, index) => index === 0 || new Date(createdAt) >= request.keepSince);
      const keys = [newKey(request.algorithm, request.now, request.certify), ...former];
      const sealed = this.#keyring.seal(serialize(keys), this.#record);
      if ((await this.#store.write(this.#record, sealed, { kind: "revision", revision: record.revision })) === "conflict") continue;
      await this.reload();
      return this.active;
    }
    throw new KbsError("ERR_KBS_STORE_CONFLICT", { message: `the signing keys in ${this.#record} are being changed by others; try again` });
  }
}

function newKey(algorithm: "ES256" | "EdDSA", now: Date, certify: Certify | undefined): KeptKey {
  const key = generateSigningKey(algorithm);
  const pem = key.privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  return { createdAt: now.toISOString(), pem, chain: certify?.(key, now) ?? "" };
}

function serialize(keys: readonly KeptKey[]): Buffer {
  return Buffer.from(JSON.stringify({ format: "ociseal-kbs-signing/1", keys }), "utf8");
}

async function load(store: SecretStore, keyring: Keyring, name: string): Promise<readonly [SigningKeyEntry, ...SigningKeyEntry[]]> {
  const record = await store.read(name);
  if (record === undefined) throw corrupt(name);
  const [first, ...rest] = parseKeys(await keyring.open(record.bytes, name), name).map(({ createdAt, pem, chain }) => ({
    key: parseSigningKey(pem),
    createdAt,
    chain,
  }));
  if (first === undefined) throw corrupt(name);
  return [first, ...rest];
}

function parseKeys(bytes: Buffer, name: string): readonly KeptKey[] {
  const value = parseJson(bytes, { maxBytes: 1 << 20, maxDepth: 5, subject: `the record ${name}` });
  if (!isObject(value) || !Array.isArray(value["keys"])) throw corrupt(name);
  return value["keys"].map((key: unknown) => {
    if (!isObject(key)) throw corrupt(name);
    const { createdAt, pem, chain } = key;
    if (typeof createdAt !== "string" || typeof pem !== "string" || typeof chain !== "string") throw corrupt(name);
    return { createdAt, pem, chain };
  });
}

function corrupt(name: string): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the record ${name} is damaged or gone`, hint: "restore it from a backup" });
}
