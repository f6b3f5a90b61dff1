import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { AccessRule } from "../../src/registry-server/index.ts";
import { makeHelloImage, seedRegistry } from "../../registry-fixtures/index.ts";
import { missingPeers, missingRoot } from "../peers.ts";
import { startRegistry } from "./client.ts";
import { run, temporaryFolder } from "./programs.ts";

const programs = ["podman-4.3", "podman-5.4", "buildah-1.28", "buildah-1.39"] as const;
/** As `--anonymous-pull` has it. */
const access: readonly AccessRule[] = [
  { repository: "*", actions: ["pull"] },
  { user: "*", repository: "*", actions: ["pull", "push", "delete"] },
];

describe.skipIf(missingPeers(...programs) || missingRoot("podman and buildah"))("podman and buildah", () => {
  it.each(programs)("%s pulls without a password, and pushes the same image back with one only", async (name) => {
    await using folder = await temporaryFolder();
    await using registry = await startRegistry({ kind: "directory", auth: { kind: "token", users: { alice: "open:sesame" }, access } });
    const image = await makeHelloImage();
    {
      // Seeded without a password by a server of its own: nothing of ours is in the way.
      await using open = await startRegistry();
      await seedRegistry(open.server, "app", image, "1");
      await mkdir(join(folder.path, ".config/containers"), { recursive: true });
      await writeFile(join(folder.path, ".config/containers/policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
      const storage = ["--root", join(folder.path, "root"), "--runroot", join(folder.path, "run"), "--storage-driver", "vfs"];
      const program = (...args: readonly string[]) => run(name, [...storage, ...args], folder.path);
      const local = `${open.server.address}/app:1`;
      const remote = `${registry.server.address}/team/app:1`;
      const pulled = await program("pull", "--tls-verify=false", local);
      expect(pulled, pulled.stderr).toMatchObject({ code: 0 });
      expect(await program("push", "--tls-verify=false", local, `docker://${remote}`)).not.toMatchObject({ code: 0 });
      const pushed = await program("push", "--tls-verify=false", "--creds", "alice:open:sesame", local, `docker://${remote}`);
      expect(pushed, pushed.stderr).toMatchObject({ code: 0 });
      const again = await program("pull", "--tls-verify=false", remote);
      expect(again, again.stderr).toMatchObject({ code: 0 });
    }
    const token = (await registry.call("GET", "/auth/token?scope=repository:team/app:pull")).json() as { token: string };
    const manifest = await registry.call("GET", "/v2/team/app/manifests/1", { headers: { authorization: `Bearer ${token.token}` } });
    // They compress layers anew, so that only the configuration stays what it was.
    const configOf = (bytes: Uint8Array | undefined) =>
      (JSON.parse(Buffer.from(bytes ?? []).toString()) as { config: { digest: string } }).config.digest;
    expect(configOf(manifest.body)).toBe(configOf(image.contents.at(-1)?.bytes));
  });
});
