import type { SignaturePolicy } from "./model.ts";
import type { PolicySubject } from "./scopes.ts";

/**
 * Reads a file that a policy names: a path as it stands there, `file://…`, or a URI such as `kbs:///repo/type/tag` where
 * the caller can reach it.
 */
export type MaterialReader = (reference: string) => Promise<Uint8Array>;

/** Everything that a containers-policy.json demands of an image of this name. */
export interface PolicyRequirement {
  readonly kind: "policy";
  readonly policy: SignaturePolicy;
  readonly subject: PolicySubject;
  /** Local files unless told. */
  readonly readMaterial?: MaterialReader | undefined;
  /**
   * Whether v0.3 bundles count. They name no repository, so no `signedIdentity` can be checked on them; skopeo reads none.
   * The setting stands outside the file because an unknown member makes skopeo refuse it. `refuse` unless told.
   */
  readonly bundles?: "refuse" | "count" | undefined;
}
