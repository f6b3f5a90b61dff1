import type { CallOptions } from "../../store/index.ts";
import { keyServiceError } from "./checked-signer.ts";
import type { PluginAccess } from "./kms-plugin.ts";
import type { KubernetesAccess } from "./kubernetes.ts";
import type { Pkcs11Access } from "./pkcs11-token.ts";
import type { PublicKey } from "./public-key.ts";
import type { KeySigner } from "./signer.ts";
import type { VaultAccess } from "./vault.ts";

/** How to reach keys that are no files. The command line fills it from the environment, as cosign does. */
export interface KeyAccess {
  /** For `hashivault://` and `openbao://`. */
  readonly vault?: VaultAccess | undefined;
  /** For `k8s://`. */
  readonly kubernetes?: KubernetesAccess | undefined;
  /** For `pkcs11:`. */
  readonly pkcs11?: Pkcs11Access | undefined;
  /** For every other `NAME://`. */
  readonly plugin?: PluginAccess | undefined;
}

/** Where a key is, by its URI; `undefined` for the name of a file. */
export type KeyPlace = "vault" | "kubernetes" | "pkcs11" | "plugin";

/** Tells URIs of keys from names of files: `hashivault://app`, `k8s://ns/name`, `pkcs11:…`, `awskms://…`. */
export function keyPlaceOf(reference: string): KeyPlace | undefined {
  if (reference.startsWith("pkcs11:")) return "pkcs11";
  const scheme = /^([a-z][a-z0-9-]*):\/\//.exec(reference)?.[1];
  switch (scheme) {
    case undefined:
    case "file":
      return undefined;
    case "hashivault":
    case "openbao":
      return "vault";
    case "k8s":
      return "kubernetes";
    default:
      return "plugin";
  }
}

/**
 * Opens a signer over a key that is no file. Each place's code is loaded when it is asked for.
 * Throws `ERR_KEY_SERVICE`, and what {@link loadSigner} throws for a key in a secret.
 */
export async function openKeySigner(reference: string, access: KeyAccess, options: CallOptions = {}): Promise<KeySigner> {
  const place = keyPlaceOf(reference);
  switch (place) {
    case "vault":
      return await (
        await import("./vault.ts")
      ).openVaultSigner(reference, given(access.vault, reference, "VAULT_ADDR and VAULT_TOKEN"), options);
    case "kubernetes":
      return await (
        await import("./kubernetes.ts")
      ).openKubernetesSigner(reference, given(access.kubernetes, reference, "a service account"), options);
    case "pkcs11":
      return await (
        await import("./pkcs11.ts")
      ).openPkcs11Signer(reference, given(access.pkcs11, reference, "COSIGN_PKCS11_MODULE_PATH"), options);
    case "plugin":
      return await (await import("./kms-plugin.ts")).openPluginSigner(reference, given(access.plugin, reference, "PATH"), options);
    case undefined:
      throw keyServiceError(
        `${reference.slice(0, 120)} is not the URI of a key`,
        "write NAME://KEY or pkcs11:…, or the name of a file where one is asked for",
      );
  }
}

/** The public key of such a key, for verification. Throws as {@link openKeySigner}. */
export async function openPublicKey(reference: string, access: KeyAccess, options: CallOptions = {}): Promise<PublicKey> {
  if (keyPlaceOf(reference) === "kubernetes") {
    return await (
      await import("./kubernetes.ts")
    ).loadKubernetesPublicKey(reference, given(access.kubernetes, reference, "a service account"), options);
  }
  return (await openKeySigner(reference, access, options)).publicKey;
}

function given<Access>(access: Access | undefined, reference: string, what: string): Access {
  if (access === undefined) throw keyServiceError(`${reference.slice(0, 120)} cannot be reached: nothing says how`, `set ${what}`);
  return access;
}
