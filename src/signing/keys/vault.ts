import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import type { Dispatcher } from "undici";
import type { CallOptions } from "../../store/index.ts";
import type { JsonObject } from "../shape.ts";
import { checkedSigner, keyServiceError } from "./checked-signer.ts";
import { callKeyService } from "./key-http.ts";
import { publicKeyOf, type PublicKey } from "./public-key.ts";
import type { KeySigner } from "./signer.ts";

/** How to reach a Vault or OpenBao. The command line reads `VAULT_ADDR` and its siblings, and for OpenBao `BAO_ADDR` and its. */
export interface VaultAccess {
  readonly address: string;
  readonly token: string;
  /** `transit` unless told. */
  readonly enginePath?: string | undefined;
  readonly namespace?: string | undefined;
  /** PEM of the Vault's own authorities; without them its certificate is held to the system's. */
  readonly authorities?: string | undefined;
  /** Stands for `authorities`. */
  readonly dispatcher?: Dispatcher | undefined;
}

const grammar = /^(?:hashivault|openbao):\/\/([A-Za-z0-9_.-]{1,200})$/;

/**
 * A signer over a key of Vault's transit engine: `hashivault://name` or `openbao://name`. The key never leaves the
 * Vault; it is given digests only (of Ed25519 the message). Throws `ERR_KEY_SERVICE`.
 * Source: Vault HTTP API, "Transit secrets engine".
 */
export async function openVaultSigner(reference: string, access: VaultAccess, options: CallOptions = {}): Promise<KeySigner> {
  const name = grammar.exec(reference)?.[1];
  if (name === undefined)
    throw keyServiceError(`${reference.slice(0, 120)} is not the URI of a Vault key`, "write hashivault://NAME or openbao://NAME");
  const { version, publicKey } = await readLatest(name, reference, access, options);
  return checkedSigner(publicKey, async (message, signOptions = {}) => {
    const isPrehashed = publicKey.type !== "ed25519";
    const path = isPrehashed ? `sign/${name}/sha2-256` : `sign/${name}`;
    const input = isPrehashed ? createHash("sha256").update(message).digest() : Buffer.from(message);
    const body = {
      input: input.toString("base64"),
      prehashed: isPrehashed,
      // The version whose public key was read: a rotation between the two calls must not change the signer.
      key_version: version,
      ...(publicKey.type === "rsa" ? { signature_algorithm: "pkcs1v15" } : {}),
    };
    const { data } = await call(path, reference, access, body, signOptions);
    const signature = /^vault:v\d+:([A-Za-z0-9+/=]+)$/.exec(String((data as JsonObject | undefined)?.["signature"]))?.[1];
    if (signature === undefined) throw keyServiceError(`${reference}: the answer holds no signature`);
    return Buffer.from(signature, "base64");
  });
}

async function readLatest(
  name: string,
  reference: string,
  access: VaultAccess,
  options: CallOptions,
): Promise<{ readonly version: number; readonly publicKey: PublicKey }> {
  const { data } = await call(`keys/${name}`, reference, access, undefined, options);
  const { latest_version: version, keys, type } = (data ?? {}) as JsonObject;
  const entry = (keys as Readonly<Record<string, JsonObject>> | undefined)?.[String(version)];
  const text = entry?.["public_key"];
  // Of a derived key it is empty: each context makes another one.
  if (typeof version !== "number" || typeof text !== "string" || text === "") {
    throw keyServiceError(
      `${reference}: the answer holds no public key`,
      "the key must be asymmetric and not derived: ecdsa-p256, rsa-3072 or ed25519 (vault write transit/keys/NAME type=ecdsa-p256)",
    );
  }
  return { version, publicKey: publicKeyOf(decodeKey(text, type === "ed25519", reference), reference) };
}

/** PEM, and of Ed25519 the 32 bytes of the key in base64. */
function decodeKey(text: string, isRaw: boolean, reference: string): KeyObject {
  try {
    if (!isRaw) return createPublicKey(text);
    const x = Buffer.from(text, "base64").toString("base64url");
    return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  } catch (cause) {
    throw keyServiceError(`${reference}: its public key cannot be decoded`, undefined, cause);
  }
}

async function call(
  path: string,
  subject: string,
  { address, token, enginePath = "transit", namespace, authorities, dispatcher }: VaultAccess,
  body: JsonObject | undefined,
  { signal }: CallOptions,
): Promise<JsonObject> {
  if (!URL.canParse(address))
    throw keyServiceError(`${subject}: the Vault's address is not a URL`, "set VAULT_ADDR, as https://vault.example.com:8200");
  const engine = enginePath.replace(/^\/+|\/+$/g, "");
  return await callKeyService({
    url: new URL(`${address.replace(/\/+$/, "")}/v1/${engine}/${path}`),
    headers: { "x-vault-token": token, "x-vault-request": "true", ...(namespace === undefined ? {} : { "x-vault-namespace": namespace }) },
    body,
    authorities,
    dispatcher,
    subject,
    ...(signal === undefined ? {} : { signal }),
  });
}
