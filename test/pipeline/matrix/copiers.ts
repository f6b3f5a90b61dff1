import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Outcome } from "../../cli/run.ts";
import { layoutContents, runPeer, unpackedContents, type MatrixPeer, type Task } from "./peer.ts";

const flags = (flag: string, values: readonly string[]): readonly string[] => values.flatMap((value) => [flag, value]);

/** skopeo: from layout to layout. */
export function skopeo(name: "skopeo-1.9" | "skopeo-1.18" | "skopeo-1.22"): MatrixPeer {
  const copy = (task: Task, ...args: readonly string[]): Promise<Outcome> =>
    runPeer(name, task, ["--insecure-policy", "copy", ...args, `oci:${task.source}:it`, `oci:${task.target}:it`]);
  return {
    name,
    programs: [name],
    user: "any",
    encrypt: (task, recipients) => copy(task, ...flags("--encryption-key", recipients)),
    async decrypt(task, keys) {
      const outcome = await copy(task, ...flags("--decryption-key", keys));
      return { ...outcome, contents: (file) => layoutContents(task.target, file) };
    },
  };
}

/** podman and buildah: through their storage, a fresh one for each task, so that nothing is there already. */
export function engine(name: "podman-4.3" | "podman-5.4" | "buildah-1.28" | "buildah-1.39"): MatrixPeer {
  const open = async (task: Task) => {
    const storage = await mkdtemp(join(task.bench.folder, "s-"));
    const policy = join(storage, "policy.json");
    await writeFile(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
    const global = ["--root", join(storage, "root"), "--runroot", join(storage, "run"), "--storage-driver", "vfs"];
    const run = (command: string, ...args: readonly string[]): Promise<Outcome> =>
      runPeer(name, task, [...global, command, "--signature-policy", policy, ...args]);
    return { storage, run };
  };
  return {
    name,
    programs: [name],
    user: "root",
    async encrypt(task, recipients) {
      const { run } = await open(task);
      const pulled = await run("pull", `oci:${task.source}:it`);
      if (pulled.status !== 0) return pulled;
      return run("push", ...flags("--encryption-key", recipients), pulled.stdout.trim(), `oci:${task.target}:it`);
    },
    async decrypt(task, keys) {
      const { storage, run } = await open(task);
      const outcome = await run("pull", ...flags("--decryption-key", keys), `oci:${task.source}:it`);
      return { ...outcome, contents: (file) => unpackedContents(join(storage, "root/vfs/dir"), "", file) };
    },
  };
}
