import { constants, createPublicKey, privateEncrypt, randomUUID, sign, type KeyObject } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { newPrivateKey, type KeyTypeName } from "./keys-fixture.ts";

/**
 * Vault's transit engine and a Kubernetes API, as far as signing asks them, with real keys. Vault's answers are those of a
 * real one, which vault.test.ts asks the same; beside the keys of each type there are `symmetric` and `derived`, of which
 * there is no public key.
 */
export interface FakeKeyServices {
  readonly url: string;
  readonly token: string;
  /** Paths and bodies that came, without headers. */
  readonly requests: { readonly path: string; readonly body: unknown }[];
  /** Makes a new version of a key the latest. */
  rotate(name: string): void;
  /** Former versions sign no more, as with `min_encryption_version`. */
  retireFormer(name: string): void;
  misbehave(how: "is-sealed" | "answers-500" | "signs-with-another-key" | "answers-html" | "behaves"): void;
  close(): Promise<void>;
}

const vaultTypes: Readonly<Record<KeyTypeName, string>> = {
  "ecdsa-p256": "ecdsa-p256",
  "ecdsa-p384": "ecdsa-p384",
  "ecdsa-p521": "ecdsa-p521",
  rsa: "rsa-2048",
  ed25519: "ed25519",
};

interface Key {
  readonly type: KeyTypeName;
  readonly versions: KeyObject[];
  firstThatSigns: number;
}

interface SignBody {
  readonly input: string;
  readonly prehashed: boolean;
  readonly key_version: number;
  readonly signature_algorithm?: string;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const refusal = (status: number, ...errors: readonly string[]): Answer => ({ status, body: { errors } });

function envelope(data: unknown): Answer {
  const rest = { lease_id: "", renewable: false, lease_duration: 0, wrap_info: null, warnings: null, auth: null };
  return { status: 200, body: { request_id: randomUUID(), ...rest, data } };
}

export async function startFakeKeyServices(
  secrets: Readonly<Record<string, Readonly<Record<string, string>>>> = {},
  tls?: { readonly cert: string; readonly key: string },
): Promise<FakeKeyServices> {
  const token = "hvs.CAESIsecret";
  const keys = new Map<string, Key>();
  for (const type of Object.keys(vaultTypes) as KeyTypeName[]) keys.set(type, { type, versions: [newPrivateKey(type)], firstThatSigns: 1 });
  const requests: { path: string; body: unknown }[] = [];
  let behaviour: Parameters<FakeKeyServices["misbehave"]>[0] = "behaves";

  function answer(path: string, authorized: boolean, body: unknown): Answer {
    if (behaviour === "answers-500") return refusal(500, "internal error");
    if (behaviour === "answers-html") return { status: 200, body: "<html>" };
    if (path.startsWith("/api/")) return authorized ? secretOf(path) : { status: 401, body: { kind: "Status", code: 401 } };
    if (behaviour === "is-sealed") return refusal(503, "Vault is sealed");
    if (!authorized) return refusal(403, "permission denied");
    const [, area, name = "", hash] = /^\/v1\/transit\/(keys|sign)\/([^/]+)(?:\/(.+))?$/.exec(path) ?? [];
    if (area === undefined) return refusal(404, `no handler for route '${path.slice("/v1/".length)}'`);
    if (area === "keys" && (name === "symmetric" || name === "derived")) return envelope(keyWithoutPublicKey(name));
    const key = keys.get(name);
    if (area === "keys") return key === undefined ? refusal(404) : envelope(keyData(key.type, key.versions));
    return key === undefined ? refusal(400, "signing key not found") : signed(key, hash, body as SignBody);
  }

  function secretOf(path: string): Answer {
    const secret = /^\/api\/v1\/namespaces\/([^/]+)\/secrets\/([^/]+)$/.exec(path);
    const data = secret === null ? undefined : secrets[`${secret[1]}/${secret[2]}`];
    return data === undefined ? { status: 404, body: { kind: "Status", code: 404 } } : { status: 200, body: { kind: "Secret", data } };
  }

  function signed({ type, versions, firstThatSigns }: Key, hash: string | undefined, body: SignBody): Answer {
    if (body.key_version > versions.length)
      return refusal(500, "1 error occurred:\n\t* requested version for signing is higher than the latest key version\n\n");
    if (body.key_version < firstThatSigns)
      return refusal(500, "1 error occurred:\n\t* requested version for signing is less than the minimum encryption key version\n\n");
    const version = behaviour === "signs-with-another-key" ? undefined : versions[body.key_version - 1];
    const key = version ?? newPrivateKey(type);
    const input = Buffer.from(body.input, "base64");
    const answerOf = (signature: Buffer): Answer =>
      envelope({ key_version: body.key_version, signature: `vault:v${body.key_version}:${signature.toString("base64")}` });
    if (type === "ed25519") return answerOf(sign(undefined, input, key));
    if (hash !== "sha2-256" || !body.prehashed || input.length !== 32) throw new Error("not a SHA-256 digest");
    if (type === "rsa" && body.signature_algorithm !== "pkcs1v15") throw new Error("Vault signs PSS unless told");
    return answerOf(signDigest(key, type, input));
  }

  const respond = (request: IncomingMessage, response: ServerResponse): void => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      const body: unknown = text === "" ? undefined : JSON.parse(text);
      const path = request.url ?? "";
      requests.push({ path, body });
      const authorized = request.headers["x-vault-token"] === token || request.headers.authorization === `Bearer ${token}`;
      const result = answer(path, authorized, body);
      response.writeHead(result.status, { "content-type": "application/json" });
      response.end(typeof result.body === "string" ? result.body : JSON.stringify(result.body));
    });
  };
  const server: Server = tls === undefined ? createServer(respond) : createTlsServer(tls, respond);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token,
    requests,
    rotate: (name) => {
      const key = keys.get(name);
      key?.versions.push(newPrivateKey(key.type));
    },
    retireFormer: (name) => {
      const key = keys.get(name);
      if (key !== undefined) key.firstThatSigns = key.versions.length;
    },
    misbehave: (how) => void (behaviour = how),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function keyData(type: KeyTypeName, versions: readonly KeyObject[]): object {
  const publicKeyOf = (key: KeyObject): string => {
    const publicKey = createPublicKey(key);
    if (type !== "ed25519") return publicKey.export({ format: "pem", type: "spki" }).toString();
    return Buffer.from(publicKey.export({ format: "jwk" }).x ?? "", "base64url").toString("base64");
  };
  const keys = Object.fromEntries(versions.map((key, i) => [String(i + 1), { name: type, public_key: publicKeyOf(key) }]));
  return { type: vaultTypes[type], latest_version: versions.length, keys };
}

/** Of a symmetric key the engine tells when it was made, of a derived one an empty text. */
function keyWithoutPublicKey(name: "symmetric" | "derived"): object {
  return name === "symmetric"
    ? { type: "aes256-gcm96", latest_version: 1, keys: { "1": 1795532652 } }
    : { type: "ed25519", derived: true, latest_version: 1, keys: { "1": { name: "ed25519", public_key: "" } } };
}

/** Signs a digest as it is, which node:crypto cannot do for EC keys. */
function signDigest(key: KeyObject, type: KeyTypeName, digest: Buffer): Buffer {
  if (type === "rsa") {
    // DigestInfo of SHA-256. RFC 8017 section 9.2.
    const prefix = Buffer.from("3031300d060960864801650304020105000420", "hex");
    return privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, Buffer.concat([prefix, digest]));
  }
  const curve = type === "ecdsa-p256" ? p256 : type === "ecdsa-p384" ? p384 : p521;
  const secret = Buffer.from(key.export({ format: "jwk" }).d ?? "", "base64url");
  return Buffer.from(curve.sign(digest, secret, { prehash: false, format: "der", lowS: false }));
}
