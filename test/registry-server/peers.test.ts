import { generateKeyPairSync } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { encodedOf, type Digest } from "../../src/bytes/index.ts";
import type { AuthOptions } from "../../src/registry-server/index.ts";
import { makeHelloImage, makeImage, makeIndex, randomBytes, seedRegistry, type FixtureImage } from "../../registry-fixtures/index.ts";
import { missingPeers } from "../peers.ts";
import { startRegistry, storageKinds } from "./client.ts";
import { run, temporaryFolder } from "./programs.ts";

const skopeos = ["skopeo-1.9", "skopeo-1.18", "skopeo-1.22"] as const;
const users = { alice: "open:sesame" };

/** Writes a fixture as an OCI layout, for peers to push. */
async function writeLayout(folder: string, image: FixtureImage, name: string): Promise<void> {
  await mkdir(join(folder, "blobs/sha256"), { recursive: true });
  await writeFile(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  for (const { descriptor, bytes } of image.contents) await writeFile(join(folder, "blobs/sha256", encodedOf(descriptor.digest)), bytes);
  const entry = { ...image.descriptor, annotations: { "org.opencontainers.image.ref.name": name } };
  await writeFile(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
}

async function sample(): Promise<FixtureImage> {
  const layers = [0, 1, 2].map((i) => ({ entries: [{ kind: "file", path: `file${i}`, content: randomBytes(i, 200_000) } as const] }));
  return makeIndex({ images: [await makeImage({ layers }), await makeHelloImage("hi\n", "arm64")] });
}

async function rootDigestOf(layout: string): Promise<Digest | undefined> {
  const index = JSON.parse(await readFile(join(layout, "index.json"), "utf8")) as { manifests: { digest: Digest }[] };
  return index.manifests[0]?.digest;
}

describe.skipIf(missingPeers(...skopeos))("skopeo", () => {
  describe.each(skopeos)("%s", (skopeo) => {
    it.each(storageKinds)("pushes an index with all its parts to %s storage and pulls it unchanged", async (kind) => {
      await using folder = await temporaryFolder();
      await using registry = await startRegistry({ kind });
      const image = await sample();
      await writeLayout(join(folder.path, "in"), image, "v1");
      const remote = `docker://${registry.server.address}/team/app`;
      const copy = ["copy", "--insecure-policy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"];
      expect(await run(skopeo, [...copy, "oci:in:v1", `${remote}:v1`], folder.path)).toMatchObject({ code: 0 });
      expect((await registry.call("GET", "/v2/team/app/manifests/v1")).headers["docker-content-digest"]).toBe(image.descriptor.digest);
      // Within the registry: blobs are mounted.
      const other = `docker://${registry.server.address}/other/app`;
      expect(await run(skopeo, [...copy, `${remote}:v1`, `${other}:v2`], folder.path)).toMatchObject({ code: 0 });
      expect(await run(skopeo, [...copy, `${other}:v2`, "oci:out:v2"], folder.path)).toMatchObject({ code: 0 });
      expect(await rootDigestOf(join(folder.path, "out"))).toBe(image.descriptor.digest);
      const tags = await run(skopeo, ["list-tags", "--tls-verify=false", remote], folder.path);
      expect(JSON.parse(tags.stdout)).toMatchObject({ Tags: ["v1"] });
      expect(await run(skopeo, ["delete", "--tls-verify=false", `${remote}:v1`], folder.path)).toMatchObject({ code: 0 });
      expect((await registry.call("GET", "/v2/team/app/manifests/v1")).status).toBe(404);
    });

    it.each(["basic", "token"] as const)("logs in with %s authentication", async (kind) => {
      const auth: AuthOptions = { kind, users };
      await using folder = await temporaryFolder();
      await using registry = await startRegistry({ auth });
      const image = await makeHelloImage();
      await writeLayout(join(folder.path, "in"), image, "v1");
      const push = ["copy", "--insecure-policy", "--dest-tls-verify=false", "oci:in:v1", `docker://${registry.server.address}/team/app:v1`];
      expect(await run(skopeo, push, folder.path)).not.toMatchObject({ code: 0 });
      expect(await run(skopeo, [...push, "--dest-creds", "alice:open:sesame"], folder.path)).toMatchObject({ code: 0 });
      const inspect = ["inspect", "--raw", "--tls-verify=false", `docker://${registry.server.address}/team/app:v1`];
      const { stdout } = await run(skopeo, [...inspect, "--creds", "alice:open:sesame"], folder.path);
      expect(stdout).toBe(image.contents.at(-1)?.bytes.toString());
    });

    it("pushes encrypted layers in one stream of unknown length, and opens them again", async () => {
      await using folder = await temporaryFolder();
      await using registry = await startRegistry({ kind: "directory" });
      const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
      await writeFile(join(folder.path, "pub.pem"), publicKey.export({ type: "spki", format: "pem" }));
      await writeFile(join(folder.path, "key.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
      await writeLayout(join(folder.path, "in"), await makeHelloImage(), "v1");
      const remote = `docker://${registry.server.address}/sealed:v1`;
      const common = ["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
      expect(await run(skopeo, [...common, "--encryption-key", "jwe:pub.pem", "oci:in:v1", remote], folder.path)).toMatchObject({
        code: 0,
      });
      expect((await registry.call("GET", "/v2/sealed/manifests/v1")).body.toString()).toContain("tar+gzip+encrypted");
      expect(await run(skopeo, [...common, "--decryption-key", "key.pem", remote, "oci:out:v1"], folder.path)).toMatchObject({ code: 0 });
    });
  });

  it("reads the storage folder itself as an OCI layout", async () => {
    await using folder = await temporaryFolder();
    await using registry = await startRegistry({ kind: "directory" });
    const image = await sample();
    await seedRegistry(registry.server, "team/app", image, "v1");
    const source = `oci:${registry.folder}/team+app:v1`;
    expect(await run("skopeo-1.22", ["copy", "--insecure-policy", "--all", source, "oci:out:v1"], folder.path)).toMatchObject({ code: 0 });
    expect(await rootDigestOf(join(folder.path, "out"))).toBe(image.descriptor.digest);
  });
});

describe.skipIf(missingPeers("cosign-2.5", "cosign-3.1"))("cosign", () => {
  it.each(["cosign-2.5", "cosign-3.1"] as const)("%s signs, verifies, and shows what refers to an image", async (cosign) => {
    await using folder = await temporaryFolder();
    await using registry = await startRegistry({ kind: "directory" });
    const image = await makeHelloImage();
    await seedRegistry(registry.server, "team/app", image, "v1");
    const name = `${registry.server.address}/team/app@${image.descriptor.digest}`;
    const env = { COSIGN_PASSWORD: "" };
    expect(await run(cosign, ["generate-key-pair"], folder.path, env)).toMatchObject({ code: 0 });
    const extra = cosign === "cosign-3.1" ? ["--use-signing-config=false"] : [];
    const sign = ["sign", "--key", "cosign.key", "--tlog-upload=false", "--yes", ...extra, name];
    expect(await run(cosign, sign, folder.path, env)).toMatchObject({ code: 0 });
    expect(await run(cosign, ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", name], folder.path, env)).toMatchObject({
      code: 0,
    });
    const referrers = (await registry.call("GET", `/v2/team/app/referrers/${image.descriptor.digest}`)).json() as {
      manifests: { artifactType: string }[];
    };
    const tags = (await registry.call("GET", "/v2/team/app/tags/list")).json() as { tags: string[] };
    // Version 2 signs under a tag, version 3 as a referrer; with our referrers API it needs no fallback tag.
    const found = {
      tags: tags.tags.filter((tag) => tag.endsWith(".sig")),
      types: referrers.manifests.map(({ artifactType }) => artifactType),
    };
    expect(found).toEqual(
      cosign === "cosign-2.5"
        ? { tags: [`sha256-${encodedOf(image.descriptor.digest)}.sig`], types: [] }
        : { tags: [], types: ["application/vnd.dev.sigstore.bundle.v0.3+json"] },
    );
    expect(tags.tags).not.toContain(`sha256-${encodedOf(image.descriptor.digest)}`);
    const tree = await run(cosign, ["tree", name], folder.path, env);
    expect([tree.code, `${tree.stdout}${tree.stderr}`]).toEqual([0, expect.stringMatching(/sha256:[0-9a-f]{64}/)]);
  });
});
