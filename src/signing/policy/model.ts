/**
 * A containers-policy.json in exact types. Source: containers/image docs/containers-policy.json.5.md; the grammar is that
 * of its parser (signature/policy_config.go), checked against skopeo 1.18 and 1.22.
 */
export interface SignaturePolicy {
  /** The file, for messages. */
  readonly source: string;
  readonly default: RequirementList;
  /** Transport to scope to requirements. */
  readonly transports: ReadonlyMap<string, ReadonlyMap<string, RequirementList>>;
}

/** All must hold. */
export type RequirementList = readonly [PolicyItem, ...PolicyItem[]];

export type PolicyItem =
  | { readonly kind: "insecureAcceptAnything" }
  | { readonly kind: "reject" }
  /** GnuPG signatures: parsed, never satisfied here. */
  | { readonly kind: "signedBy" }
  /** Parsed, never satisfied anywhere. */
  | { readonly kind: "signedBaseLayer" }
  | SigstoreSigned;

export interface SigstoreSigned {
  readonly kind: "sigstoreSigned";
  readonly trust: PolicyTrust;
  /** Keys of the logs of which one must have promised to log the signature; none when empty. */
  readonly rekorKeys: readonly Material[];
  readonly signedIdentity: SignedIdentity;
  /** Members as they stand in the file, for `policy check`. */
  readonly members: readonly string[];
}

/** Something that stands in a file or in the policy itself. */
export type Material =
  | { readonly kind: "path"; readonly path: string; readonly member: string }
  | { readonly kind: "data"; readonly bytes: Buffer; readonly member: string; readonly form: "base64" | "pem" };

export type PolicyTrust =
  | { readonly kind: "keys"; readonly keys: readonly Material[] }
  | { readonly kind: "fulcio"; readonly ca: Material; readonly oidcIssuer: string; readonly subjectEmail: string }
  | {
      readonly kind: "pki";
      readonly roots: Material;
      readonly intermediates: Material | undefined;
      readonly subjectEmail: string | undefined;
      readonly subjectHostname: string | undefined;
    };

export type SignedIdentity =
  | { readonly kind: "matchExact" }
  | { readonly kind: "matchRepoDigestOrExact" }
  | { readonly kind: "matchRepository" }
  | { readonly kind: "exactReference"; readonly dockerReference: string }
  | { readonly kind: "exactRepository"; readonly dockerRepository: string }
  | { readonly kind: "remapIdentity"; readonly prefix: string; readonly signedPrefix: string };
