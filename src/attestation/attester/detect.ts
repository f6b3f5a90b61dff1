import { access } from "node:fs/promises";
import { join } from "node:path";

/** Where to look. Everything below one root, so that a test can offer its own tree. */
export interface DetectOptions {
  /** Root of the file system to look in; `/` unless told. */
  readonly root?: string | undefined;
}

/** What betrays which TEE, most specific first. Source: confidential-containers guest-components, attester/src/lib.rs, `detect_tee_type`. */
const signs: readonly { readonly path: string; readonly tee: "tdx" | "snp" }[] = [
  { path: "dev/tdx_guest", tee: "tdx" },
  { path: "sys/devices/virtual/misc/tdx_guest", tee: "tdx" },
  { path: "sys/devices/platform/sev-guest", tee: "snp" },
  { path: "dev/sev-guest", tee: "snp" },
];

/** The TEE that this machine is a guest of, or `undefined`. The sample TEE is never detected: it must be asked for. */
export async function detectTee(options: DetectOptions = {}): Promise<"tdx" | "snp" | undefined> {
  for (const { path, tee } of signs) {
    try {
      await access(join(options.root ?? "/", path));
    } catch {
      // Absence of one sign is the normal case.
      continue;
    }
    return tee;
  }
  return undefined;
}
