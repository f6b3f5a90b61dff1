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
  const [address, token] = [env["VAULT_ADDR"], env["VAULT_TOKEN"]];
  const kubernetes = await clusterAccess(env);
  return {
    ...(address === undefined || token === undefined
      ? {}
      : { vault: { address, token, enginePath: env["TRANSIT_SECRET_ENGINE_PATH"], namespace: env["VAULT_NAMESPACE"] } }),
    ...(kubernetes === undefined ? {} : { kubernetes }),
    pkcs11: {
      modulePath: env["COSIGN_PKCS11_MODULE_PATH"],
      pin: env["COSIGN_PKCS11_PIN"],
      env: { PATH: env["PATH"], SOFTHSM2_CONF: env["SOFTHSM2_CONF"] },
    },
    plugin: { env },
  };
}
