import type { Descriptor } from "../oci/index.ts";
import type { BlobSource, CallOptions, ContentStore, PushOutcome } from "../store/index.ts";

/** A repository at a registry. */
export interface RegistryStore extends ContentStore {
  /** The registry's host as in references, and the repository's name. */
  readonly host: string;
  readonly repository: string;
  /**
   * Makes a blob of another repository of the same registry appear in this one without moving its bytes.
   *
   * `not-mounted` when the registry does not want to; push the blob then.
   */
  mount(target: Descriptor, fromRepository: string, options?: CallOptions): Promise<"mounted" | "present" | "not-mounted">;
  /** Pushes a blob, after an attempt to mount it from a repository of the same registry that is known to have it. */
  pushFrom(target: Descriptor, source: BlobSource, fromRepository: string | undefined, options?: CallOptions): Promise<PushOutcome>;
}
