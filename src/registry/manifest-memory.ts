import type { Digest } from "../bytes/index.ts";
import type { FetchedManifest } from "./manifests.ts";

const maxBytes = 16 * 1024 * 1024;

/**
 * Manifests that were read or written a moment ago, by digest: resolving and then fetching, or pushing and then
 * tagging, costs one request (the Hub counts each). Content by digest cannot become stale. The oldest go first.
 */
export class ManifestMemory {
  readonly #entries = new Map<Digest, FetchedManifest>();
  #bytes = 0;

  find(digest: Digest): FetchedManifest | undefined {
    return this.#entries.get(digest);
  }

  remember(manifest: FetchedManifest): void {
    if (this.#entries.has(manifest.descriptor.digest)) return;
    this.#entries.set(manifest.descriptor.digest, manifest);
    this.#bytes += manifest.bytes.length;
    for (const [digest, { bytes }] of this.#entries) {
      if (this.#bytes <= maxBytes) break;
      this.#entries.delete(digest);
      this.#bytes -= bytes.length;
    }
  }

  forget(digest: Digest): void {
    const known = this.#entries.get(digest);
    if (known === undefined) return;
    this.#entries.delete(digest);
    this.#bytes -= known.bytes.length;
  }
}
