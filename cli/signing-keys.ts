import { join } from "node:path";
import {
  keyPlaceOf,
  loadPublicKey,
  loadSigner,
  openKeySigner,
  openPublicKey,
  type KeyAccess,
  type KeySigner,
  type PublicKey,
} from "../src/signing/index.ts";
import { clusterAccess } from "./cluster-access.ts";
import { readSmallFile } from "./files.ts";
import { cosignPassword } from "./password.ts";
import type { Shell } from "./shell.ts";

/** A signer by the name of a file, or by a URI: `hashivault://`, `k8s://`, `pkcs11:`, or the scheme of a KMS plugin. */
export async function signerByName(shell: Shell, key: string): Promise<KeySigner> {
  if (keyPlaceOf(key) !== undefined) return openKeySigner(key, await accessOf(shell.env), { signal: shell.signal });
  const file = key.replace(/^file:\/\//, "");
  return loadSigner({ pem: await readSmallFile(file, "signing key"), source: file, password: cosignPassword(shell, file) });
}

/** The public key of such a name. */
export async function publicKeyByName(shell: Shell, key: string): Promise<PublicKey> {
  if (keyPlaceOf(key) !== undefined) return openPublicKey(key, await accessOf(shell.env), { signal: shell.signal });
  const file = key.replace(/^file:\/\//, "");
  return loadPublicKey({ bytes: await readSmallFile(file, "public key"), source: file });
}

/** How key services are reached, under the variables that cosign reads. Source: cosign, KMS and PKCS#11 documentation. */
async function accessOf(env: Shell["env"]): Promise<KeyAccess> {
  const vault = await vaultAccess(env);
  const kubernetes = await clusterAccess(env);
  return {
    ...(vault === undefined ? {} : { vault }),
    ...(kubernetes === undefined ? {} : { kubernetes }),
    pkcs11: {
      modulePath: env["COSIGN_PKCS11_MODULE_PATH"],
      pin: env["COSIGN_PKCS11_PIN"],
      // Modules of vendors find their configuration there, each under names of its own.
      env,
    },
    plugin: { env },
  };
}

/**
 * OpenBao's own names stand before those that it shares with Vault; without a token there, the one of `vault login` or
 * `bao login` is taken, as cosign does. Source: OpenBao, "Environment variables".
 */
export async function vaultAccess(env: Shell["env"]): Promise<KeyAccess["vault"]> {
  const named = (name: string): string | undefined => env[`BAO_${name}`] ?? env[`VAULT_${name}`];
  const [address, authorities] = [named("ADDR"), named("CACERT")];
  if (address === undefined) return undefined;
  const token = named("TOKEN") ?? (await tokenOfLogin(env));
  if (token === undefined) return undefined;
  return {
    address,
    token,
    enginePath: env["TRANSIT_SECRET_ENGINE_PATH"],
    namespace: named("NAMESPACE"),
    ...(authorities === undefined ? {} : { authorities: (await readSmallFile(authorities, "certificates of the Vault")).toString("utf8") }),
  };
}

/** Where the commands of Vault and of OpenBao keep a token. */
async function tokenOfLogin({ HOME: home }: Shell["env"]): Promise<string | undefined> {
  if (home === undefined || home === "") return undefined;
  try {
    const token = (await readSmallFile(join(home, ".vault-token"), "token of the Vault")).toString("utf8").trim();
    return token === "" ? undefined : token;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw cause;
  }
}
