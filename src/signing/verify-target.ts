import type { Descriptor } from "../oci/index.ts";
import type { ContentReader } from "../store/index.ts";

/** Where the image and its signatures are. */
export interface VerifyTarget {
  readonly store: ContentReader;
  /** The manifest or index as pulled; for an encrypted image that of the ciphertext. */
  readonly target: Descriptor;
  /** Where signatures are kept, when not beside the image (COSIGN_REPOSITORY). */
  readonly signatureStore?: ContentReader | undefined;
  /** The present time; only certificates of plain authorities (`pki` in a policy) are judged by it. */
  readonly now?: Date | undefined;
}
