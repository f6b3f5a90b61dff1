import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { allows, allowsSomewhere, type AdminAction } from "../tokens/grants.ts";
import type { AdminIdentity } from "../tokens/admin-tokens.ts";
import { bearerOf, type Call } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { Refusal } from "./refusal.ts";

/**
 * Who sends a request: by bearer token, or else by client certificate. Throws refusals `admin-token-missing`,
 * `admin-token-invalid`.
 */
export async function identify(
  context: Pick<ServiceContext, "adminVerifiers" | "certificateIdentity" | "now">,
  call: Call,
): Promise<AdminIdentity> {
  const token = bearerOf(call);
  if (token === undefined) {
    const identity = call.clientCertificate === undefined ? undefined : context.certificateIdentity(call.clientCertificate);
    if (identity !== undefined) return identity;
    throw new Refusal("admin-token-missing", `admin access denied for endpoint ${call.path}: no bearer token`);
  }
  for (const verifier of context.adminVerifiers) {
    let identity: AdminIdentity | undefined;
    try {
      identity = await verifier.verify(token, context.now(), call);
    } catch (cause) {
      if (cause instanceof KbsError && cause.category === "unavailable") throw cause;
      throw new Refusal("admin-token-invalid", `admin access denied for endpoint ${call.path}: ${describeCause(cause)}`, { cause });
    }
    if (identity !== undefined) return identity;
  }
  throw new Refusal("admin-token-invalid", `admin access denied for endpoint ${call.path}: no configured issuer knows this token`);
}

/** Checks a right on a path, or on any path at all. Throws refusal `admin-forbidden`. */
export function requireRight(identity: AdminIdentity, action: AdminAction, path: string | undefined): void {
  if (path === undefined ? allowsSomewhere(identity.grants, action) : allows(identity.grants, action, path)) return;
  const what = path === undefined || path === "" ? "everything" : path;
  throw new Refusal(
    "admin-forbidden",
    `admin access denied: ${identity.subject} (${identity.roles.join(", ")}) may not ${action} on ${what}`,
  );
}
