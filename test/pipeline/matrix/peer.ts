import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { cleanEnvironment, type Outcome } from "../../cli/run.ts";
import { readBlob, readImage } from "../../layer/layout.ts";
import { peer, type PeerName } from "../../peers.ts";

/** Files that a test made, and what a peer may need to know about it. */
export interface Bench {
  readonly folder: string;
  /** Of the key provider, for `OCICRYPT_KEYPROVIDER_CONFIG`. */
  readonly providerConfig: string;
  /** As arguments of `doctor containerd`. */
  readonly kbs: readonly string[];
}

/** One way through a peer. Folders are OCI layouts whose only image is called `it`. */
export interface Task {
  readonly bench: Bench;
  readonly source: string;
  /** For what the peer writes; does not exist. */
  readonly target: string;
}

/** A real program that encrypts and decrypts, or says why not. */
export interface MatrixPeer {
  readonly name: string;
  readonly programs: readonly PeerName[];
  /** Who can run it without more set-up. */
  readonly user: "any" | "root";
  /** Recipients as `jwe:FILE` and `provider:NAME:PARAMETER`; writes the layout `target`. */
  encrypt(task: Task, recipients: readonly string[]): Promise<Outcome>;
  /** Keys as files and `provider:NAME`. On success `contents` are all that the peer now holds under the name of a file. */
  decrypt(task: Task, keys: readonly string[]): Promise<Outcome & { readonly contents?: (file: string) => Promise<readonly Buffer[]> }>;
}

/** Runs a peer to its end, with nothing of the machine's in its environment. */
export function runPeer(name: PeerName, { bench }: Task, args: readonly string[]): Promise<Outcome> {
  return new Promise((done) => {
    const env = cleanEnvironment({
      HOME: bench.folder,
      OCICRYPT_KEYPROVIDER_CONFIG: bench.providerConfig,
      CONTAINERD_SNAPSHOTTER: "native",
      PODMAN_IGNORE_CGROUPSV1_WARNING: "1",
    });
    execFile(peer(name) ?? name, args, { cwd: bench.folder, env, timeout: 50_000 }, (error, stdout, stderr) => {
      done({ status: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr });
    });
  });
}

/** The files of gzipped layers in a layout; each layer's tar holds one file. */
export async function layoutContents(folder: string, file: string): Promise<readonly Buffer[]> {
  return readImage(folder).layers.flatMap(({ digest }) => {
    const tar = gunzipSync(readBlob(folder, digest));
    const size = Number.parseInt(tar.subarray(124, 135).toString(), 8);
    return tar.subarray(0, file.length + 1).toString() === `${file}\0` ? [tar.subarray(512, 512 + size)] : [];
  });
}

/** Files of a name in the folders of unpacked layers. */
export async function unpackedContents(folder: string, under: string, file: string): Promise<readonly Buffer[]> {
  const found: Buffer[] = [];
  for (const layer of await readdir(folder)) {
    const content = await readFile(join(folder, layer, under, file)).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    });
    if (content !== undefined) found.push(content);
  }
  return found;
}
