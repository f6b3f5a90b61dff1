import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRegistry } from "../../src/registry/index.ts";
import { openKeySigner, openPublicKey, signImage, verifyImage, type KeyAccess } from "../../src/signing/index.ts";
import { memoryStore } from "../../src/store/index.ts";
import { vaultAccess } from "../../cli/signing-keys.ts";
import { missingPeers } from "../peers.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingVault, startVault, type TestVault } from "../vault.ts";
import { pushImage } from "./image.ts";
import { removeFolder, run, startDockerRegistry, temporaryFolder } from "./programs.ts";

const now = new Date("2026-01-02T03:04:05Z");
const types = ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "ed25519"] as const;

// The same acts are tried on an imitation in key-services.test.ts; what only a real one can show is here.
describe.skipIf(missingVault())("a key in a real Vault or OpenBao", () => {
  let vault: TestVault;
  let folder: string;
  let env: Record<string, string>;
  const rules = (name: string): string =>
    `path "transit/keys/${name}" { capabilities = ["read"] } path "transit/sign/${name}" { capabilities = ["update"] } path "transit/sign/${name}/*" { capabilities = ["update"] }`;

  const access = async (more: Readonly<Record<string, string>> = {}): Promise<KeyAccess> => ({
    vault: await vaultAccess({ ...env, ...more }),
  });

  beforeAll(async () => {
    folder = temporaryFolder();
    vault = await startVault();
    writeFileSync(join(folder, "ca.crt"), caCertificate);
    for (const type of types) await vault.call("POST", `transit/keys/${type}`, { type });
    env = { VAULT_ADDR: vault.url, VAULT_CACERT: join(folder, "ca.crt"), VAULT_TOKEN: await vault.token(types.map(rules).join(" ")) };
  });
  afterAll(async () => {
    await vault.stop();
    removeFolder(folder);
  });

  it.each(types)("of type %s signs images, with rights to read and sign", async (type) => {
    const signer = await openKeySigner(`hashivault://${type}`, await access());
    const store = memoryStore("memory:vault");
    const target = await pushImage(store);
    await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
    const key = await openPublicKey(`openbao://${type}`, await access());
    const { signatures } = await verifyImage({ store, target, requirement: { kind: "keys", keys: [key], log: "if-present" } });
    expect(signatures).toHaveLength(2);
  });

  it("signs on with the version whose public key was read when it is rotated, until that may not sign any more", async () => {
    await vault.call("POST", "transit/keys/rotated", { type: "ecdsa-p256" });
    const as = await access({ VAULT_TOKEN: vault.rootToken });
    const signer = await openKeySigner("hashivault://rotated", as);
    await vault.call("POST", "transit/keys/rotated/rotate");
    expect(await signer.sign(Buffer.from("message"))).toBeInstanceOf(Buffer);
    const next = await openKeySigner("hashivault://rotated", as);
    expect(next.publicKey.fingerprint).not.toBe(signer.publicKey.fingerprint);
    await vault.call("POST", "transit/keys/rotated/config", { min_encryption_version: 2 });
    await expect(signer.sign(Buffer.from("message"))).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
    expect(await next.sign(Buffer.from("message"))).toBeInstanceOf(Buffer);
  });

  it.each([
    ["a foreign token", "ecdsa-p256", { VAULT_TOKEN: "s.foreign" }, "answered 403"],
    ["a key without rights to it", "other", {}, "answered 403"],
    ["a key that is not there", "nothing", { VAULT_TOKEN: "root" }, "answered 404 (there is no such key"],
    ["a mount that is not there", "ecdsa-p256", { VAULT_TOKEN: "root", TRANSIT_SECRET_ENGINE_PATH: "nothing" }, "nothing that holds keys"],
    ["a symmetric key", "symmetric", { VAULT_TOKEN: "root" }, "holds no public key"],
    ["a derived key", "derived", { VAULT_TOKEN: "root" }, "holds no public key"],
    ["an authority that nobody named", "ecdsa-p256", { VAULT_CACERT: "" }, "cannot be asked"],
  ] as const)("tells %s", async (_, name, more, text) => {
    await vault.call("POST", "transit/keys/symmetric", { type: "aes256-gcm96" });
    await vault.call("POST", "transit/keys/derived", { type: "ed25519", derived: true });
    const changes = Object.entries({ ...env, ...more }).filter(([, value]) => value !== "");
    const own = Object.fromEntries(changes.map(([key, value]) => [key, value === "root" ? vault.rootToken : value]));
    const failing = openKeySigner(`hashivault://${name}`, { vault: await vaultAccess(own) });
    await expect(failing).rejects.toMatchObject({ code: "ERR_KEY_SERVICE", message: expect.stringContaining(text) });
  });

  it("that may be read and not used says so when it signs", async () => {
    const token = await vault.token(`path "transit/keys/ecdsa-p256" { capabilities = ["read"] }`);
    const signer = await openKeySigner("hashivault://ecdsa-p256", await access({ VAULT_TOKEN: token }));
    await expect(signer.sign(Buffer.from("message"))).rejects.toMatchObject({ message: expect.stringContaining("answered 403") });
  });

  it("in an engine elsewhere, under OpenBao's names of the variables", async () => {
    await vault.call("POST", "sys/mounts/build/signing", { type: "transit" });
    await vault.call("POST", "build/signing/keys/app", { type: "ecdsa-p256" });
    const bao = {
      BAO_ADDR: vault.url,
      BAO_TOKEN: vault.rootToken,
      BAO_CACERT: join(folder, "ca.crt"),
      VAULT_TOKEN: "s.foreign",
      TRANSIT_SECRET_ENGINE_PATH: "build/signing",
    };
    const signer = await openKeySigner("openbao://app", { vault: await vaultAccess(bao) });
    expect(await signer.sign(Buffer.from("message"))).toBeInstanceOf(Buffer);
  });

  // Debian's cosign knows no hashivault://; the public key that Vault gives out is enough for it.
  it.skipIf(missingPeers("cosign-2.5", "cosign-3.1", "docker-registry"))("makes signatures that real cosign verifies", async () => {
    const registry = await startDockerRegistry();
    const store = openRegistry({ host: registry.host, repository: "vault" });
    try {
      for (const type of ["ecdsa-p256", "ecdsa-p384", "rsa-3072"]) {
        const signer = await openKeySigner(`hashivault://${type}`, await access());
        const target = await pushImage(store, type);
        await signImage({ store, target, reference: `${registry.host}/vault`, signer, format: "both", now });
        const { value } = await vault.call("GET", `transit/keys/${type}`);
        const { keys } = value["data"] as { readonly keys: Readonly<Record<string, { readonly public_key: string }>> };
        writeFileSync(join(folder, "vault.pub"), keys["1"]?.public_key ?? "");
        for (const cosign of ["cosign-2.5", "cosign-3.1"] as const) {
          const args = ["verify", "--key", "vault.pub", "--insecure-ignore-tlog=true", `${registry.host}/vault@${target.digest}`];
          expect(await run(cosign, args, {}, folder)).toMatchObject({ code: 0 });
        }
      }
    } finally {
      await store.close();
      await registry.stop();
    }
  });

  it("waits for nobody while it is sealed or away, and signs again afterwards", async () => {
    const signer = await openKeySigner("hashivault://ecdsa-p256", await access());
    await vault.seal();
    await expect(signer.sign(Buffer.from("message"))).rejects.toMatchObject({ message: expect.stringContaining("503 (it is sealed") });
    await vault.kill();
    await expect(signer.sign(Buffer.from("message"))).rejects.toMatchObject({ message: expect.stringContaining("cannot be asked") });
    await vault.start();
    expect(await signer.sign(Buffer.from("message"))).toBeInstanceOf(Buffer);
  });
});
