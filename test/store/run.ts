import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { peer, type PeerName } from "../peers.ts";

const execute = promisify(execFile);

/** Runs a peer's program to its end and gives its standard output; a failure carries what it said. */
export async function runPeer(name: PeerName, ...args: readonly string[]): Promise<string> {
  const path = peer(name);
  if (path === undefined) throw new Error(`${name} is not installed`);
  const { stdout } = await execute(path, [...args], { maxBuffer: 16 << 20 });
  return stdout;
}

/** skopeo in the way all tests use it: no signature policy of the machine, no output. */
export function skopeo(name: PeerName, ...args: readonly string[]): Promise<string> {
  return runPeer(name, "--insecure-policy", ...args);
}
