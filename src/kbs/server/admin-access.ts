import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { allows, type AdminAction } from "../tokens/grants.ts";
import type { AdminIdentity, AdminTokenVerifier } from "../tokens/admin-tokens.ts";
import { bearerOf, type Call } from "./call.ts";
import { Refusal } from "./refusal.ts";

/** Who sends a request. Throws refusals `admin-token-missing`, `admin-token-invalid`. */
export async function identify(verifiers: readonly AdminTokenVerifier[], call: Call, now: Date): Promise<AdminIdentity> {
  const token = bearerOf(call);
  if (token === undefined) throw new Refusal("admin-token-missing", `admin access denied for endpoint ${call.path}: no bearer token`);
  for (const verifier of verifiers) {
    let identity: AdminIdentity | undefined;
    try {
      identity = await verifier.verify(token, now);
    } catch (cause) {
      if (cause instanceof KbsError && cause.category === "unavailable") throw cause;
      throw new Refusal("admin-token-invalid", `admin access denied for endpoint ${call.path}: ${describeCause(cause)}`, { cause });
    }
    if (identity !== undefined) return identity;
  }
  throw new Refusal("admin-token-invalid", `admin access denied for endpoint ${call.path}: no configured issuer knows this token`);
}

/** Checks a right. Throws refusal `admin-forbidden`. */
export function requireRight(identity: AdminIdentity, action: AdminAction, path: string): void {
  if (allows(identity.grants, action, path)) return;
  throw new Refusal(
    "admin-forbidden",
    `admin access denied: ${identity.subject} (${identity.roles.join(", ")}) may not ${action} on ${path === "" ? "everything" : path}`,
  );
}
