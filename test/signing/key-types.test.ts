import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportCosignKeyPair, loadPublicKey, loadSigner, signImage, verifyImage } from "../../src/signing/index.ts";
import { memoryStore } from "../../src/store/index.ts";
import { openRegistry } from "../../src/registry/index.ts";
import { missingPeers, type PeerName } from "../peers.ts";
import { pushImage } from "./image.ts";
import { keyTypes, newPrivateKey, newSigner } from "./keys-fixture.ts";
import { removeFolder, run, startDockerRegistry, temporaryFolder, type RegistryProcess } from "./programs.ts";

const now = new Date("2026-01-02T03:04:05Z");

describe("signatures of every key type", () => {
  it.each(keyTypes)("by %s verify under that key and under no other", async (type) => {
    const store = memoryStore("memory:types");
    const target = await pushImage(store);
    const signer = await newSigner(type);
    const stranger = await newSigner(type);
    await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
    const { signatures } = await verifyImage({
      store,
      target,
      requirement: { kind: "keys", keys: [stranger.publicKey, signer.publicKey], log: "if-present" },
    });
    expect(signatures.map(({ signatory }) => signatory.kind === "key" && signatory.fingerprint)).toEqual([
      signer.publicKey.fingerprint,
      signer.publicKey.fingerprint,
    ]);
    const failing = verifyImage({ store, target, requirement: { kind: "keys", keys: [stranger.publicKey], log: "if-present" } });
    await expect(failing).rejects.toMatchObject({ code: "ERR_SIGNATURE_REJECTED" });
  });

  it.each(["ecdsa-p384", "ecdsa-p521"] as const)("by %s verify with the curve's hash as well", async (type) => {
    const store = memoryStore("memory:types");
    const target = await pushImage(store);
    const signer = await newSigner(type, "curve");
    await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
    const { signatures } = await verifyImage({ store, target, requirement: { kind: "keys", keys: [signer.publicKey], log: "if-present" } });
    expect(signatures).toHaveLength(2);
  });
});

describe.skipIf(missingPeers("cosign-2.5", "cosign-3.1", "skopeo-1.18", "skopeo-1.22", "docker-registry"))(
  "every key type with real peers",
  () => {
    let registry: RegistryProcess;
    let folder: string;
    const env = { COSIGN_PASSWORD: "p" };

    beforeAll(async () => {
      registry = await startDockerRegistry();
      folder = temporaryFolder();
      mkdirSync(join(folder, "rd"));
      writeFileSync(join(folder, "rd", "all.yaml"), "default-docker:\n  use-sigstore-attachments: true\n");
    });

    afterAll(async () => {
      await registry.stop();
      removeFolder(folder);
    });

    async function prepare(type: (typeof keyTypes)[number], repository: string) {
      const pair = await exportCosignKeyPair({ key: newPrivateKey(type), password: "p" });
      writeFileSync(join(folder, `${repository}.key`), pair.privatePem);
      writeFileSync(join(folder, `${repository}.pub`), pair.publicPem);
      const store = openRegistry({ host: registry.host, repository });
      const target = await pushImage(store, "v1");
      return { ...pair, store, target, image: `${registry.host}/${repository}@${target.digest}`, name: repository };
    }

    async function exitCode(name: PeerName, args: readonly string[]): Promise<string> {
      const { code, stderr } = await run(name, args, env, folder);
      return code === 0 ? `${name} verifies` : `${name}: ${stderr}`;
    }

    // Eight program starts a type: a sample at the desk, all where the peers must be there anyway.
    const sample = process.env["CI"] === undefined ? (["ecdsa-p384", "ed25519"] as const) : keyTypes;

    it.each(sample)("%s: both cosigns and skopeo verify what we sign", async (type) => {
      const { store, target, image, name, privatePem } = await prepare(type, `ours-${type}`);
      const signer = await loadSigner({ pem: privatePem, password: "p", source: name });
      await signImage({ store, target, reference: `${registry.host}/${name}`, signer, format: "both", now });
      await store.close();
      const policy = {
        default: [{ type: "sigstoreSigned", keyPath: join(folder, `${name}.pub`), signedIdentity: { type: "matchRepository" } }],
      };
      writeFileSync(join(folder, `${name}.json`), JSON.stringify(policy));
      const verify = ["verify", "--key", `${name}.pub`, "--insecure-ignore-tlog=true"];
      const skopeo = ["--registries.d", "rd", "--policy", `${name}.json`, "copy", "--src-tls-verify=false", `docker://${image}`];
      const verdicts = [
        await exitCode("cosign-2.5", [...verify, image]),
        await exitCode("cosign-3.1", [...verify, image]),
        await exitCode("cosign-3.1", [...verify, "--new-bundle-format=false", image]),
        await exitCode("skopeo-1.18", [...skopeo, `dir:${name}-18`]),
        await exitCode("skopeo-1.22", [...skopeo, `dir:${name}-22`]),
      ];
      const all = ["cosign-2.5", "cosign-3.1", "cosign-3.1", "skopeo-1.18", "skopeo-1.22"];
      expect(verdicts).toEqual(all.map((name) => `${name} verifies`));
    });

    it.each(sample)("%s: we verify what both cosigns sign", async (type) => {
      const { store, target, image, name, publicPem } = await prepare(type, `theirs-${type}`);
      const sign = ["sign", "--key", `${name}.key`, "--tlog-upload=false", "--yes"];
      const key = loadPublicKey({ bytes: publicPem, source: name });
      const verify = () => verifyImage({ store, target, requirement: { kind: "keys", keys: [key], log: "if-present" } });
      expect(await run("cosign-2.5", [...sign, image], env, folder)).toMatchObject({ code: 0 });
      expect((await verify()).signatures.map(({ format }) => format)).toEqual(["legacy"]);
      expect(await run("cosign-3.1", [...sign, "--use-signing-config=false", image], env, folder)).toMatchObject({ code: 0 });
      expect((await verify()).signatures.map(({ format }) => format)).toEqual(["legacy", "bundle"]);
      await store.close();
    });
  },
);
