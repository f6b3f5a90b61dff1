import { KbsError } from "../errors.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import { parseKeptKeys, serializeKeptKeys, type KeptKey } from "./kept-keys.ts";
import { generateSigningKey, parseSigningKey, parseVerifyingKey, type SigningKey, type VerifyingKey } from "./signing-key.ts";

/** The key that signs now. */
export interface SigningKeyEntry {
  readonly key: SigningKey;
  readonly createdAt: string;
  /** Certificates as base64 of DER, leaf first; empty when it has none. */
  readonly x5c: readonly string[];
}

/** A key that signed once. */
export interface FormerKeyEntry {
  readonly key: VerifyingKey;
  readonly createdAt: string;
  readonly x5c: readonly string[];
  readonly retiredAt: string;
  /** `revoked`: nothing that it signed is accepted any more, but the audit log, which it signed too, can still be verified. */
  readonly state: "verifying" | "revoked";
}

/** Makes the certificate chain of a new key; an empty text when it has none. */
export type Certify = (key: SigningKey, now: Date) => string;

export interface SigningKeysOptions {
  /** Names the record. */
  readonly purpose: string;
  readonly algorithm: "ES256" | "EdDSA";
  readonly certify?: Certify | undefined;
  /** How long after its retirement a key is published: as long as anything that it signed may live. */
  readonly overlapMs: number;
  /** How long its public half is kept at all: as long as an audit log may name it. */
  readonly keepMs: number;
}

/** A rotation or revocation by one replica holds at the others after this time. */
const maxAgeMs = 5_000;
/** Strangers may name unknown keys as often as they like; the store is asked about them this often at most. */
const minAgeMs = 250;
const maxFormer = 200;
const maxAttempts = 10;

/**
 * The signing keys for one purpose, sealed in the store so that all replicas sign and verify with the same ones.
 *
 * Rotation puts a new key in front. The former one loses its private half at once and goes on verifying until what it
 * signed has expired, so nobody notices; or it is revoked with all others before it, when one of them may have leaked.
 */
export class SigningKeys {
  readonly #store: SecretStore;
  readonly #keyring: Keyring;
  readonly #options: SigningKeysOptions;
  readonly #record: string;
  #active: SigningKeyEntry;
  #former: readonly FormerKeyEntry[];
  #loadedAt = performance.now();

  private constructor(store: SecretStore, keyring: Keyring, options: SigningKeysOptions, keys: readonly [KeptKey, ...KeptKey[]]) {
    this.#store = store;
    this.#keyring = keyring;
    this.#options = options;
    this.#record = recordOf(options);
    this.#active = activeOf(keys);
    this.#former = formerOf(keys);
  }

  static async open(store: SecretStore, keyring: Keyring, now: Date, options: SigningKeysOptions): Promise<SigningKeys> {
    const record = recordOf(options);
    if ((await store.read(record)) === undefined) {
      const made = newKey(options, now);
      await store.write(record, keyring.seal(serializeKeptKeys([made]), record), { kind: "absent" });
    }
    return new SigningKeys(store, keyring, options, (await read(store, keyring, record)).keys);
  }

  get active(): SigningKeyEntry {
    return this.#active;
  }

  /** Former keys, newest first, as far as they are kept. */
  get former(): readonly FormerKeyEntry[] {
    return this.#former;
  }

  /** The keys with which others may verify what is in circulation. */
  published(now: Date): readonly (SigningKeyEntry | FormerKeyEntry)[] {
    const since = now.getTime() - this.#options.overlapMs;
    return [
      this.#active,
      ...this.#former.filter(({ state, retiredAt }) => state === "verifying" && new Date(retiredAt).getTime() >= since),
    ];
  }

  /** A key that may verify, for tokens; revoked ones may not. Another replica may have made it just now. */
  async find(kid: string): Promise<VerifyingKey | undefined> {
    await this.#refresh(this.everByKid(kid) === undefined ? minAgeMs : maxAgeMs);
    if (this.#active.key.kid === kid) return this.#active.key;
    return this.#former.find(({ key, state }) => key.kid === kid && state === "verifying")?.key;
  }

  /** Any key that ever signed, for what was written down while it was good. */
  everByKid(kid: string): VerifyingKey | undefined {
    return [this.#active, ...this.#former].find(({ key }) => key.kid === kid)?.key;
  }

  /** Puts a new key in front. `revoke` ends all former keys at once, the one that was active included. */
  async rotate(request: { readonly former: "keep" | "revoke"; readonly now: Date }): Promise<SigningKeyEntry> {
    const added = newKey(this.#options, request.now);
    const keepSince = request.now.getTime() - this.#options.keepMs;
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      const { keys, revision } = await read(this.#store, this.#keyring, this.#record);
      const former = keys.map((key, index) =>
        retired(key, index === 0 ? request.now.toISOString() : retirementOf(keys, index), request.former),
      );
      const kept = former.filter(({ retiredAt }) => new Date(retiredAt ?? 0).getTime() >= keepSince).slice(0, maxFormer);
      const sealed = this.#keyring.seal(serializeKeptKeys([added, ...kept]), this.#record);
      if ((await this.#store.write(this.#record, sealed, { kind: "revision", revision })) === "conflict") continue;
      this.#take([added, ...kept]);
      return this.active;
    }
    throw new KbsError("ERR_KBS_STORE_CONFLICT", { message: `the signing keys in ${this.#record} are being changed by others; try again` });
  }

  /** While the store is away the keys in memory are good: nobody can revoke them there either. */
  async #refresh(maxAge: number): Promise<void> {
    if (performance.now() - this.#loadedAt < maxAge) return;
    try {
      this.#take((await read(this.#store, this.#keyring, this.#record)).keys);
    } catch (cause) {
      if (!(cause instanceof KbsError) || cause.category !== "unavailable") throw cause;
    }
  }

  #take(keys: readonly [KeptKey, ...KeptKey[]]): void {
    this.#active = activeOf(keys);
    this.#former = formerOf(keys);
    this.#loadedAt = performance.now();
  }
}

function recordOf({ purpose }: SigningKeysOptions): string {
  return `system/signing-${purpose}`;
}

function newKey({ algorithm, certify }: SigningKeysOptions, now: Date): KeptKey {
  const key = generateSigningKey(algorithm);
  const pem = key.privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  return { createdAt: now.toISOString(), pem, chain: certify?.(key, now) ?? "" };
}

function activeOf([first]: readonly [KeptKey, ...KeptKey[]]): SigningKeyEntry {
  return { key: parseSigningKey(first.pem), createdAt: first.createdAt, x5c: x5cOf(first.chain) };
}

function formerOf(keys: readonly [KeptKey, ...KeptKey[]]): readonly FormerKeyEntry[] {
  return keys.slice(1).map(({ createdAt, pem, chain, revoked }, index) => ({
    key: parseVerifyingKey(pem),
    createdAt,
    x5c: x5cOf(chain),
    retiredAt: retirementOf(keys, index + 1),
    state: revoked === true ? "revoked" : "verifying",
  }));
}

/** PEM certificates as the base64 DER texts of `x5c`. */
function x5cOf(chain: string): readonly string[] {
  return [...chain.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----/g)].map((match) =>
    (match[1] ?? "").replaceAll(/\s/g, ""),
  );
}

/** When a former key stopped to sign: in records that do not say, when the next one was made. */
function retirementOf(keys: readonly KeptKey[], index: number): string {
  return keys[index]?.retiredAt ?? keys[index - 1]?.createdAt ?? new Date(0).toISOString();
}

/** Without its private half: nobody signs with it again. */
function retired(key: KeptKey, retiredAt: string, former: "keep" | "revoke"): KeptKey {
  const pem = parseVerifyingKey(key.pem).publicKey.export({ format: "pem", type: "spki" }).toString();
  return { ...key, pem, retiredAt, ...(former === "revoke" ? { revoked: true as const } : {}) };
}

async function read(store: SecretStore, keyring: Keyring, name: string) {
  const record = await store.read(name);
  const keys = record === undefined ? [] : parseKeptKeys(await keyring.open(record.bytes, name), name);
  const [first, ...rest] = keys;
  if (record === undefined || first === undefined) {
    throw new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the record ${name} is damaged or gone`, hint: "restore it from a backup" });
  }
  return { keys: [first, ...rest] as const, revision: record.revision };
}
