import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const folder = resolve(import.meta.dirname, "../.peers/bin");

/** Real programs that the interop tests talk to; `make peers` installs them into `.peers/bin`. */
export type PeerName =
  | "skopeo-1.9"
  | "skopeo-1.18"
  | "skopeo-1.22"
  | "cosign-2.5"
  | "cosign-3.1"
  | "oras-1.2"
  | "oras-1.3"
  | "umoci"
  | "docker-registry"
  | "crun"
  | "runc"
  | "promtool"
  | "prometheus"
  | "podman-4.3"
  | "podman-5.4"
  | "buildah-1.28"
  | "buildah-1.39"
  | "containerd-1.6"
  | "ctr-1.6"
  | "ctr-imgcrypt"
  | "kubectl"
  | "pkcs11-tool-0.26"
  | "pkcs11-tool-0.27"
  | "certutil"
  | "libsoftokn3-trixie.so"
  | "libsoftokn3-sid.so";

/**
 * The path of a peer's program, or `undefined` when it is not installed.
 *
 * Use as `describe.skipIf(missingPeers("skopeo-1.22"))`: a missing peer skips with a printed reason; where `CI` is set
 * it fails, so that no interop claim goes untested there.
 */
export function peer(name: PeerName): string | undefined {
  const path = join(folder, name);
  return existsSync(path) ? path : undefined;
}

/** Whether any of the peers is missing. Says so aloud; throws where `CI` is set. */
export function missingPeers(...names: readonly PeerName[]): boolean {
  const missing = names.filter((name) => peer(name) === undefined);
  if (missing.length === 0) return false;
  const message = `SKIPPED: interop tests with ${missing.join(", ")}: not installed (make peers, as root on Debian)`;
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

/** Whether a peer that only root can run cannot be. Says so aloud; throws where `CI` is set. */
export function missingRoot(what: string): boolean {
  if (process.getuid?.() === 0) return false;
  const message = `SKIPPED: interop tests with ${what}: only root can run it`;
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}
