/** The programs that read the file, by how they read it. podman, buildah and CRI-O read it as skopeo does. */
export type PolicyReader = "ociseal" | "skopeo" | "skopeo-1.9" | "image-rs";

/** One place where a reader takes the file differently than its author may think. */
export interface PolicyRemark {
  readonly reader: PolicyReader;
  /** `refuses` the file; `weaker` than written; `stricter` than written; `note`. */
  readonly effect: "refuses" | "weaker" | "stricter" | "note";
  /** The member: `transports.docker["example.com"][0].keyData`; empty for the file. */
  readonly where: string;
  readonly message: string;
}
