import { parseResourcePath } from "../protocol/resource-path.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import type { Keyring } from "./keyring.ts";
import type { ResourceVault } from "./resource-vault.ts";
import type { SealedRecords } from "./sealed-records.ts";

/** Records that are not sealed by the keyring. */
const unsealed = new Set(["system/keyring"]);

/** Replicas read the keyring again at least this often (see `keyringReloadMs`), with a wide margin. */
const settledMs = 3600 * 1000;

/** How often each replica reads the keyring again, to seal under a new key soon after another made it. */
export const keyringReloadMs = 60_000;

/**
 * Seals every record of a store again under the active key-encryption key, then forgets former keys.
 *
 * Requests go on meanwhile: each record is under an old or the new key at any moment, and both are in the ring. Another
 * replica may seal under a former key until it reads the ring again; so a key is forgotten only when the active one is
 * an hour old and a pass over everything found nothing under it. Stopped half-way, it is simply run again.
 */
export async function resealEverything(parts: {
  readonly store: SecretStore;
  readonly records: SealedRecords;
  readonly vault: ResourceVault;
  readonly keyring: Keyring;
  readonly now: Date;
}): Promise<{ readonly resealed: number; readonly dropped: number }> {
  let resealed = 0;
  let after: string | undefined;
  do {
    const page = await parts.store.list({ prefix: "", limit: 1000, after });
    for (const key of page.keys) {
      if ((await resealOne(parts, key)) === "resealed") resealed += 1;
    }
    after = page.next;
  } while (after !== undefined);
  let dropped = 0;
  const active = parts.keyring.list().find((key) => key.active);
  const settled = active !== undefined && parts.now.getTime() - new Date(active.createdAt).getTime() >= settledMs && resealed === 0;
  for (const { id } of settled ? parts.keyring.list().filter((key) => !key.active) : []) {
    await parts.keyring.drop(id);
    dropped += 1;
  }
  return { resealed, dropped };
}

async function resealOne(
  parts: { readonly records: SealedRecords; readonly vault: ResourceVault },
  key: string,
): Promise<"resealed" | "current" | "absent" | "other"> {
  if (unsealed.has(key)) return "other";
  const [namespace, ...rest] = key.split("/");
  // Values are resealed with the resource that names them.
  if (namespace === "value") return "other";
  return namespace === "resource" ? parts.vault.reseal(parseResourcePath(rest.join("/"))) : parts.records.reseal(key);
}
