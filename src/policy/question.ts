/** What a policy is asked: one resource, and the claims of a verified attestation token. */
export interface PolicyQuestion {
  readonly plugin: string;
  readonly resourcePath: readonly string[];
  readonly query: Readonly<Record<string, string>>;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly now: Date;
}

export interface PolicyOutcome {
  readonly allow: boolean;
  /** At least one when the release is denied; sentences, no secrets. */
  readonly reasons: readonly string[];
}
