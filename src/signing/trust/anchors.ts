import type { PublicKey } from "../keys/public-key.ts";
import type { TrustedRoot } from "./trusted-root.ts";

/** What vouches for logs. */
export type LogAnchors =
  | { readonly kind: "trusted-root"; readonly root: TrustedRoot }
  /** Bare log keys, as a containers-policy.json names them; only the promise (SET) of a Rekor v1 log counts. */
  | { readonly kind: "rekor-keys"; readonly keys: readonly PublicKey[] };

/** What vouches for certificates. */
export type CertificateAnchors =
  | {
      readonly kind: "trusted-root";
      readonly root: TrustedRoot;
      /** Whether the certificate must carry a timestamp of a trusted certificate log. */
      readonly certificateLog: "required" | "not-required";
    }
  /** Bare authorities, as a containers-policy.json names them. */
  | { readonly kind: "authorities"; readonly authorities: CertificateAuthorities };

/** PEM texts, each with one or more certificates. */
export interface CertificateAuthorities {
  readonly roots: Buffer;
  readonly intermediates: Buffer | undefined;
  /** For messages: the member of the policy. */
  readonly source: string;
}

/** A text that must be met: exactly, or by a pattern that matches it whole. */
export type TextRule = { readonly kind: "exact"; readonly value: string } | { readonly kind: "pattern"; readonly pattern: RegExp };

/** Who must stand in the certificate. */
export type CertificateIdentity =
  | { readonly kind: "sigstore"; readonly subject: TextRule; readonly issuer: TextRule }
  /** An e-mail name and an issuer, as `fulcio` of a containers-policy.json. */
  | { readonly kind: "email"; readonly email: string; readonly issuer: string }
  /** A certificate of a plain authority, as `pki` of a containers-policy.json. */
  | { readonly kind: "pki"; readonly email: string | undefined; readonly hostname: string | undefined };
