import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeHelloImage, seedRegistry } from "../../registry-fixtures/index.ts";
import { missingPeers } from "../peers.ts";
import { startRegistry, storageKinds } from "./client.ts";
import { run, temporaryFolder } from "./programs.ts";

const programs = ["oras-1.2", "oras-1.3"] as const;

describe.skipIf(missingPeers(...programs)).each(programs)("%s", (oras) => {
  it.each(storageKinds)("pushes, attaches, discovers, copies with referrers, pulls and deletes in %s storage", async (kind) => {
    await using folder = await temporaryFolder();
    await using registry = await startRegistry({ kind });
    const image = await makeHelloImage();
    await seedRegistry(registry.server, "team/app", image, "v1");
    await writeFile(join(folder.path, "notes.txt"), "what is in it\n");
    await writeFile(join(folder.path, "large.bin"), Buffer.alloc(5_000_000, 7));
    const { address } = registry.server;
    const call = async (...args: readonly string[]) => {
      const done = await run(oras, [...args, "--plain-http"], folder.path);
      expect(done, done.stderr).toMatchObject({ code: 0 });
      return done.stdout;
    };
    await call("push", `${address}/team/files:v1`, "large.bin:application/octet-stream", "notes.txt:text/plain");
    await call("attach", "--artifact-type", "application/vnd.test.notes", `${address}/team/app:v1`, "notes.txt:text/plain");
    const found = JSON.parse(await call("discover", "--format", "json", `${address}/team/app:v1`)) as Record<
      "manifests" | "referrers",
      readonly { readonly artifactType: string }[] | undefined
    >;
    expect((found.manifests ?? found.referrers)?.map(({ artifactType }) => artifactType)).toEqual(["application/vnd.test.notes"]);

    // Both sides are the same registry, so blobs are mounted; the notes go along.
    await run(oras, ["cp", "-r", "--from-plain-http", "--to-plain-http", `${address}/team/app:v1`, `${address}/team/copy:v2`], folder.path);
    const { body } = await registry.call("GET", `/v2/team/copy/referrers/${image.descriptor.digest}`);
    expect((JSON.parse(body.toString()) as { manifests: unknown[] }).manifests).toHaveLength(1);

    await mkdir(join(folder.path, "out"));
    await call("pull", "-o", "out", `${address}/team/files:v1`);
    expect((await readFile(join(folder.path, "out/large.bin"))).equals(await readFile(join(folder.path, "large.bin")))).toBe(true);
    expect(await call("repo", "tags", `${address}/team/copy`)).toBe("v2\n");
    await call("manifest", "delete", "--force", `${address}/team/files:v1`);
    expect((await registry.call("GET", "/v2/team/files/manifests/v1")).status).toBe(404);
  });
});

describe.skipIf(missingPeers(...programs)).each(programs)("%s with a password", (oras) => {
  it.each(["basic", "token"] as const)("logs in by %s authentication", async (kind) => {
    await using folder = await temporaryFolder();
    await using registry = await startRegistry({ auth: { kind, users: { alice: "open:sesame" } } });
    const { address } = registry.server;
    await writeFile(join(folder.path, "notes.txt"), "what is in it\n");
    const push = ["push", "--plain-http", `${address}/team/files:v1`, "notes.txt:text/plain"];
    expect(await run(oras, push, folder.path)).not.toMatchObject({ code: 0 });
    const done = await run(oras, [...push, "--username", "alice", "--password", "open:sesame"], folder.path);
    expect(done, done.stderr).toMatchObject({ code: 0 });
  });
});
