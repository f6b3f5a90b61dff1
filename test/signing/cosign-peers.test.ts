import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateCosignKeyPair, loadPublicKey, loadSigner, signImage, verifyImage } from "../../src/signing/index.ts";
import { openRegistry } from "../../src/registry/index.ts";
import { missingPeers } from "../peers.ts";
import { pushImage } from "./image.ts";
import { removeFolder, run, startDockerRegistry, temporaryFolder, type RegistryProcess } from "./programs.ts";

const now = new Date("2026-01-02T03:04:05.678Z");

describe.skipIf(missingPeers("cosign-2.5", "cosign-3.1", "docker-registry"))("with real cosign on a real registry", () => {
  let registry: RegistryProcess;
  let folder: string;
  let publicPem: string;
  let privatePem: string;
  const env = { COSIGN_PASSWORD: "geheim" };

  beforeAll(async () => {
    registry = await startDockerRegistry();
    folder = temporaryFolder();
    ({ publicPem, privatePem } = await generateCosignKeyPair({ password: "geheim" }));
    writeFileSync(join(folder, "our.pub"), publicPem);
    writeFileSync(join(folder, "our.key"), privatePem);
    writeFileSync(join(folder, "empty-tr.json"), `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`);
  });

  afterAll(async () => {
    await registry.stop();
    removeFolder(folder);
  });

  it("signs in both formats so that cosign 2.5 and 3.1 verify", async () => {
    const store = openRegistry({ host: registry.host, repository: "ours" });
    const target = await pushImage(store, "v1");
    const signer = await loadSigner({ pem: privatePem, password: "geheim", source: "our.key" });
    const signed = await signImage({
      store,
      target,
      reference: `${registry.host}/ours`,
      signer,
      format: "both",
      annotations: { release: "7" },
      now,
    });
    expect(signed.legacy?.outcome).toBe("added");
    const image = `${registry.host}/ours@${target.digest}`;
    const common = ["--key", "our.pub", "--insecure-ignore-tlog=true", "-a", "release=7", image];
    expect(await run("cosign-2.5", ["verify", ...common], env, folder)).toMatchObject({ code: 0 });
    expect(await run("cosign-3.1", ["verify", ...common], env, folder)).toMatchObject({ code: 0 });
    expect(await run("cosign-3.1", ["verify", "--new-bundle-format=false", ...common], env, folder)).toMatchObject({ code: 0 });
    const pinned = [
      "verify-attestation",
      "--key",
      "our.pub",
      "--insecure-ignore-tlog=true",
      "--type",
      "https://sigstore.dev/cosign/sign/v1",
    ];
    expect(await run("cosign-3.1", [...pinned, image], env, folder)).toMatchObject({ code: 0 });
    expect(
      await run("cosign-2.5", [...pinned, "--new-bundle-format", "--trusted-root", "empty-tr.json", image], env, folder),
    ).toMatchObject({ code: 0 });
    const again = await signImage({
      store,
      target,
      reference: `${registry.host}/ours`,
      signer,
      format: "both",
      annotations: { release: "7" },
      now,
    });
    expect(again).toMatchObject({ legacy: { outcome: "present" }, bundle: { outcome: "present" } });
  });

  it("verifies what cosign 2.5 and 3.1 sign, with their keys", async () => {
    const store = openRegistry({ host: registry.host, repository: "theirs" });
    for (const version of ["cosign-2.5", "cosign-3.1"] as const) {
      const target = await pushImage(store);
      const image = `${registry.host}/theirs@${target.digest}`;
      expect(await run(version, ["generate-key-pair", "--output-key-prefix", version], env, folder)).toMatchObject({ code: 0 });
      const key = loadPublicKey({ bytes: readFileSync(join(folder, `${version}.pub`)), source: `${version}.pub` });
      await loadSigner({ pem: readFileSync(join(folder, `${version}.key`)), password: "geheim", source: version });
      const extra = version === "cosign-3.1" ? ["--use-signing-config=false"] : [];
      const sign = ["sign", "--key", `${version}.key`, "--tlog-upload=false", "--yes", ...extra];
      expect(await run(version, [...sign, image], env, folder)).toMatchObject({ code: 0 });
      const again = await run(version, [...sign, ...(version === "cosign-3.1" ? ["--new-bundle-format=false"] : []), image], env, folder);
      expect(again).toMatchObject({ code: 0 });
      const verified = await verifyImage({ store, target, requirement: { kind: "keys", keys: [key], log: "if-present" } });
      expect(verified.signatures.map(({ format }) => format).sort()).toEqual(version === "cosign-2.5" ? ["legacy"] : ["bundle", "legacy"]);
    }
  });
});
