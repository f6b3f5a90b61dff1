import type { ResourceVault } from "../keys/resource-vault.ts";
import type { ResourcePolicy } from "../protocol/policy-seam.ts";
import type { AdminTokenVerifier } from "../tokens/admin-tokens.ts";
import type { AttestationTokens } from "../tokens/attestation-tokens.ts";
import type { AttestationService } from "./attestation-service.ts";
import type { ServerLimits } from "./limits.ts";
import type { Sessions } from "./sessions.ts";

/** What the routes of one service share. */
export interface ServiceContext {
  readonly vault: ResourceVault;
  readonly sessions: Sessions;
  readonly attestation: AttestationService;
  readonly tokens: AttestationTokens;
  readonly adminVerifiers: readonly AdminTokenVerifier[];
  readonly resourcePolicy: () => Promise<ResourcePolicy>;
  readonly limits: ServerLimits;
  readonly transport: "tls" | "plain";
  readonly now: () => Date;
}
