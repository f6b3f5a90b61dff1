import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRegistry } from "../../src/registry/index.ts";
import {
  exportCosignKeyPair,
  keyPlaceOf,
  loadPublicKey,
  openKeySigner,
  openPublicKey,
  signImage,
  verifyImage,
  type KeySigner,
} from "../../src/signing/index.ts";
import { memoryStore } from "../../src/store/index.ts";
import { clusterAccess } from "../../cli/cluster-access.ts";
import { vaultAccess } from "../../cli/signing-keys.ts";
import { missingKubernetes, startKubernetes, until } from "../kubernetes.ts";
import { missingPeers } from "../peers.ts";
import { caCertificate, serverCertificate, serverKey } from "../registry/test-certificates.ts";
import { startFakeKeyServices, type FakeKeyServices } from "./fake-vault.ts";
import { pushImage } from "./image.ts";
import { keyTypes, newPrivateKey } from "./keys-fixture.ts";
import { removeFolder, run, startDockerRegistry, temporaryFolder } from "./programs.ts";

const now = new Date("2026-01-02T03:04:05Z");

async function expectItSigns(signer: KeySigner): Promise<void> {
  const store = memoryStore("memory:service");
  const target = await pushImage(store);
  await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
  const { signatures } = await verifyImage({ store, target, requirement: { kind: "keys", keys: [signer.publicKey], log: "if-present" } });
  expect(signatures).toHaveLength(2);
}

describe("a key in Vault's transit engine", () => {
  let vault: FakeKeyServices;
  beforeAll(async () => {
    vault = await startFakeKeyServices();
  });
  afterAll(() => vault.close());

  const access = () => ({ vault: { address: vault.url, token: vault.token } });

  it.each(keyTypes)("of type %s signs images", async (type) => {
    await expectItSigns(await openKeySigner(`hashivault://${type}`, access()));
  });

  it("is given digests only, and the version whose public key was read", async () => {
    const signer = await openKeySigner("openbao://ecdsa-p256", access());
    vault.rotate("ecdsa-p256");
    await signer.sign(Buffer.from("message"));
    const last = vault.requests.at(-1);
    expect(last).toMatchObject({ path: "/v1/transit/sign/ecdsa-p256/sha2-256", body: { prehashed: true, key_version: 1 } });
  });

  it("never gets a wrong signature past us", async () => {
    const signer = await openKeySigner("hashivault://ecdsa-p256", access());
    vault.misbehave("signs-with-another-key");
    await expect(signer.sign(Buffer.from("message"))).rejects.toMatchObject({
      code: "ERR_KEY_SERVICE",
      message: expect.stringContaining("does not verify"),
    });
    vault.misbehave("behaves");
  });

  it.each([
    ["a foreign token", "hashivault://ecdsa-p256", "hvs.other", "answered 403"],
    ["a key that is not there", "hashivault://nothing", undefined, "answered 404"],
    ["a symmetric key", "hashivault://symmetric", undefined, "holds no public key"],
    ["a derived key", "hashivault://derived", undefined, "holds no public key"],
    ["a name with a path in it", "hashivault://a/../b", undefined, "is not the URI of a Vault key"],
  ])("tells %s, and never the token", async (_, reference, token, text) => {
    const failing = openKeySigner(reference, { vault: { address: vault.url, token: token ?? vault.token } });
    await expect(failing).rejects.toMatchObject({ code: "ERR_KEY_SERVICE", message: expect.stringContaining(text) });
    await expect(failing).rejects.not.toMatchObject({ message: expect.stringContaining(token ?? vault.token) });
  });

  it("tells a mount that is not there, and that it is sealed", async () => {
    const elsewhere = { vault: { ...access().vault, enginePath: "build/signing" } };
    await expect(openKeySigner("hashivault://rsa", elsewhere)).rejects.toMatchObject({
      message: expect.stringContaining("holds keys at that path"),
    });
    vault.misbehave("is-sealed");
    await expect(openKeySigner("hashivault://rsa", access())).rejects.toMatchObject({ message: expect.stringContaining("sealed") });
    vault.misbehave("behaves");
  });

  it("signs no more with a version that was retired", async () => {
    const signer = await openKeySigner("hashivault://ecdsa-p384", access());
    vault.rotate("ecdsa-p384");
    vault.retireFormer("ecdsa-p384");
    await expect(signer.sign(Buffer.from("message"))).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
    await expectItSigns(await openKeySigner("hashivault://ecdsa-p384", access()));
  });

  it.each(["answers-500", "answers-html"] as const)("tells when the Vault %s", async (how) => {
    vault.misbehave(how);
    await expect(openKeySigner("hashivault://rsa", access())).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(KEY_SERVICE|JSON_MALFORMED)$/),
    });
    vault.misbehave("behaves");
  });

  it("is not asked over plain HTTP beyond loopback", async () => {
    const failing = openKeySigner("hashivault://rsa", { vault: { address: "http://vault.example.com:8200", token: "t" } });
    await expect(failing).rejects.toMatchObject({ code: "ERR_KEY_SERVICE", message: expect.stringContaining("plain HTTP") });
  });
});

describe("a Vault whose certificate is by an authority of its own", () => {
  it.each(["VAULT", "BAO"])("is reached with the file that %s_CACERT names, and not without", async (prefix) => {
    const service = await startFakeKeyServices({}, { cert: serverCertificate, key: serverKey });
    const folder = temporaryFolder();
    try {
      const file = join(folder, "ca.crt");
      writeFileSync(file, caCertificate);
      const env = { [`${prefix}_ADDR`]: service.url, [`${prefix}_TOKEN`]: service.token };
      const reference = "hashivault://ecdsa-p256";
      await expect(openKeySigner(reference, { vault: await vaultAccess(env) })).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
      await expectItSigns(await openKeySigner(reference, { vault: await vaultAccess({ ...env, [`${prefix}_CACERT`]: file }) }));
      expect(await vaultAccess({ [`${prefix}_ADDR`]: service.url })).toBeUndefined();
    } finally {
      await service.close();
      removeFolder(folder);
    }
  });
});

describe("the token of a Vault", () => {
  it("is that of the last login when no variable has one", async () => {
    const folder = temporaryFolder();
    const env = { VAULT_ADDR: "https://vault.example.com:8200", HOME: folder };
    try {
      expect(await vaultAccess(env)).toBeUndefined();
      writeFileSync(join(folder, ".vault-token"), "hvs.login\n");
      expect(await vaultAccess(env)).toMatchObject({ token: "hvs.login" });
      expect(await vaultAccess({ ...env, VAULT_TOKEN: "hvs.given" })).toMatchObject({ token: "hvs.given" });
      expect(await vaultAccess({ HOME: folder })).toBeUndefined();
      writeFileSync(join(folder, ".vault-token"), "\n");
      expect(await vaultAccess(env)).toBeUndefined();
    } finally {
      removeFolder(folder);
    }
  });
});

describe("a key pair in a Kubernetes secret", () => {
  it("signs images, and its public key verifies", async () => {
    const { privatePem, publicPem } = await exportCosignKeyPair({ key: newPrivateKey("ecdsa-p256"), password: "p" });
    const data = { "cosign.key": privatePem, "cosign.pub": publicPem, "cosign.password": "p" };
    const encoded = Object.fromEntries(Object.entries(data).map(([name, text]) => [name, Buffer.from(text).toString("base64")]));
    const cluster = await startFakeKeyServices({ "build/signing": encoded });
    try {
      const access = { kubernetes: { server: cluster.url, token: cluster.token } };
      const signer = await openKeySigner("k8s://build/signing", access);
      await expectItSigns(signer);
      expect((await openPublicKey("k8s://build/signing", access)).fingerprint).toBe(signer.publicKey.fingerprint);
      await expect(openKeySigner("k8s://build/other", access)).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
      await expect(openKeySigner("k8s://build", access)).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
    } finally {
      await cluster.close();
    }
  });

  it("is reached from a pod, whose cluster has an authority of its own", async () => {
    const { privatePem, publicPem } = await exportCosignKeyPair({ key: newPrivateKey("ecdsa-p256"), password: "" });
    const data = { "cosign.key": Buffer.from(privatePem).toString("base64"), "cosign.pub": Buffer.from(publicPem).toString("base64") };
    const cluster = await startFakeKeyServices({ "build/signing": data }, { cert: serverCertificate, key: serverKey });
    const folder = temporaryFolder();
    try {
      const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: new URL(cluster.url).port };
      expect(await clusterAccess(env, folder)).toBeUndefined();
      writeFileSync(join(folder, "token"), `${cluster.token}\n`);
      const withoutAuthority = { kubernetes: await clusterAccess(env, folder) };
      await expect(openPublicKey("k8s://build/signing", withoutAuthority)).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
      writeFileSync(join(folder, "ca.crt"), caCertificate);
      const kubernetes = await clusterAccess(env, folder);
      expect((await openPublicKey("k8s://build/signing", { kubernetes })).fingerprint).toMatch(/./);
      expect(await clusterAccess({}, folder)).toBeUndefined();
      expect(await clusterAccess({ KUBERNETES_SERVICE_HOST: "fd00::1" }, folder)).toMatchObject({ server: "https://[fd00::1]:443" });
    } finally {
      await cluster.close();
      removeFolder(folder);
    }
  });

  it.skipIf(missingKubernetes())("is read by the service account that may, from a real API server", async () => {
    const { privatePem, publicPem } = await exportCosignKeyPair({ key: newPrivateKey("ecdsa-p256"), password: "p" });
    const cluster = await startKubernetes();
    try {
      const secrets = "/api/v1/namespaces/default/secrets";
      const stringData = { "cosign.key": privatePem, "cosign.pub": publicPem, "cosign.password": "p" };
      expect(await cluster.call("POST", secrets, { metadata: { name: "signing" }, stringData })).toMatchObject({ status: 201 });
      await cluster.call("POST", "/api/v1/namespaces/default/serviceaccounts", { metadata: { name: "signer" } });
      const kubernetes = {
        server: cluster.url,
        token: await cluster.accountToken("default", "signer"),
        authorities: caCertificate,
      };
      await expect(openKeySigner("k8s://default/signing", { kubernetes })).rejects.toMatchObject({
        code: "ERR_KEY_SERVICE",
        message: expect.stringContaining("answered 403"),
      });
      const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
      const metadata = { name: "signer" };
      const rules = [{ apiGroups: [""], resources: ["secrets"], resourceNames: ["signing"], verbs: ["get"] }];
      await cluster.call("POST", `${rbac}/roles`, { metadata, rules });
      const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "signer" };
      const subjects = [{ kind: "ServiceAccount", name: "signer", namespace: "default" }];
      await cluster.call("POST", `${rbac}/rolebindings`, { metadata, roleRef, subjects });
      await until(() =>
        openPublicKey("k8s://default/signing", { kubernetes }).then(
          () => true,
          () => false,
        ),
      );
      await expectItSigns(await openKeySigner("k8s://default/signing", { kubernetes }));
    } finally {
      await cluster.stop();
    }
  });
});

describe("a key behind a cosign KMS plugin", () => {
  const folder = temporaryFolder();
  const file = join(folder, "key.pem");
  const env = { PATH: [folder, dirname(process.execPath), process.env["PATH"]].join(delimiter) };
  writeFileSync(file, newPrivateKey("ecdsa-p256").export({ format: "pem", type: "pkcs8" }));
  symlinkSync(join(import.meta.dirname, "kms-plugin-program.mjs"), join(folder, "sigstore-kms-testkms"));
  afterAll(() => removeFolder(folder));

  it("signs images", async () => {
    await expectItSigns(await openKeySigner(`testkms://${file}`, { plugin: { env } }));
  });

  it.each([
    ["says no", "testkms://denied", "permission denied"],
    ["answers no JSON", "testkms://broken", "answered no JSON"],
    ["is not installed", "nosuchkms://key", "cannot be run"],
  ])("is told apart when the plugin %s", async (_, reference, text) => {
    await expect(openKeySigner(reference, { plugin: { env } })).rejects.toMatchObject({
      code: "ERR_KEY_SERVICE",
      message: expect.stringContaining(text),
    });
  });

  it.skipIf(missingPeers("cosign-3.1", "docker-registry"))("is the same key for real cosign", async () => {
    const registry = await startDockerRegistry();
    const store = openRegistry({ host: registry.host, repository: "plugin" });
    try {
      const signer = await openKeySigner(`testkms://${file}`, { plugin: { env } });
      const target = await pushImage(store, "v1");
      const image = `${registry.host}/plugin@${target.digest}`;
      const signed = await run(
        "cosign-3.1",
        ["sign", "--key", `testkms://${file}`, "--tlog-upload=false", "--use-signing-config=false", "--yes", image],
        env,
        folder,
      );
      expect(signed).toMatchObject({ code: 0 });
      const { signatures } = await verifyImage({
        store,
        target,
        requirement: { kind: "keys", keys: [signer.publicKey], log: "if-present" },
      });
      expect(signatures).toHaveLength(1);
    } finally {
      await store.close();
      await registry.stop();
    }
  });
});

const softhsm = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"].find(existsSync);
const missingToken = softhsm === undefined || !existsSync("/usr/bin/pkcs11-tool") || !existsSync("/usr/bin/softhsm2-util");
if (missingToken) {
  if (process.env["CI"] !== undefined) throw new Error("softhsm2 and opensc are not installed");
  process.stderr.write("SKIPPED: PKCS#11 tests: softhsm2 and opensc are not installed (apt-get install softhsm2 opensc)\n");
}

describe.skipIf(missingToken)("a key in a PKCS#11 token (SoftHSM)", () => {
  const folder = temporaryFolder();
  const env = { PATH: process.env["PATH"], SOFTHSM2_CONF: join(folder, "softhsm2.conf") };
  const module = softhsm ?? "";

  beforeAll(() => {
    mkdirSync(join(folder, "tokens"));
    writeFileSync(env.SOFTHSM2_CONF, `directories.tokendir = ${join(folder, "tokens")}\n`);
    execFileSync("softhsm2-util", ["--init-token", "--free", "--label", "build", "--so-pin", "12345678", "--pin", "5678"], {
      env,
      stdio: "ignore",
    });
    for (const [label, type, id] of [
      ["p256", "EC:prime256v1", "0a"],
      ["p384", "EC:secp384r1", "0b"],
      ["p521", "EC:secp521r1", "0c"],
      ["rsa", "rsa:2048", "0d"],
    ] as const) {
      const args = [
        "--module",
        module,
        "--token-label",
        "build",
        "--login",
        "--pin",
        "5678",
        "--keypairgen",
        "--id",
        id,
        "--key-type",
        type,
        "--label",
        label,
      ];
      execFileSync("pkcs11-tool", args, { env, stdio: "ignore" });
    }
  });
  afterAll(() => removeFolder(folder));

  it.each(["p256", "p384", "p521", "rsa"])("signs images: %s", async (label) => {
    await expectItSigns(
      await openKeySigner(`pkcs11:token=build;object=${label}?module-path=${module}&pin-value=5678`, { pkcs11: { env } }),
    );
  });

  it("takes module and PIN from elsewhere", async () => {
    await expectItSigns(await openKeySigner("pkcs11:token=build;id=%0b", { pkcs11: { env, modulePath: module, pin: "5678" } }));
  });

  it("refuses a wrong PIN, and never tells it", async () => {
    const signer = await openKeySigner(`pkcs11:token=build;object=p256?module-path=${module}&pin-value=9999`, { pkcs11: { env } });
    const failing = signer.sign(Buffer.from("message"));
    await expect(failing).rejects.toMatchObject({ code: "ERR_KEY_SERVICE", message: expect.stringContaining("PIN") });
    await expect(failing).rejects.not.toMatchObject({ message: expect.stringContaining("9999") });
  });

  it("tells a key that is not there", async () => {
    const failing = openKeySigner(`pkcs11:token=build;object=nothing?module-path=${module}`, { pkcs11: { env } });
    await expect(failing).rejects.toMatchObject({ code: "ERR_KEY_SERVICE" });
  });
});

it("a public key is no private key, and the reverse", () => {
  const pem = newPrivateKey("ecdsa-p256").export({ format: "pem", type: "pkcs8" }).toString();
  expect(() => loadPublicKey({ bytes: pem, source: "x.pub" })).toThrow(expect.objectContaining({ code: "ERR_SIGNING_KEY_MALFORMED" }));
});

describe("the name of a key", () => {
  it.each([
    ["cosign.key", undefined],
    ["./hashivault:/x", undefined],
    ["file:///etc/cosign.key", undefined],
    ["hashivault://app", "vault"],
    ["openbao://app", "vault"],
    ["k8s://ns/name", "kubernetes"],
    ["pkcs11:token=a;object=b", "pkcs11"],
    ["awskms:///alias/app", "plugin"],
  ])("%s is in %s", (reference, place) => {
    expect(keyPlaceOf(reference)).toBe(place);
  });

  it("that nothing says how to reach is told with what to set", async () => {
    await expect(openKeySigner("hashivault://app", {})).rejects.toMatchObject({
      code: "ERR_KEY_SERVICE",
      hint: "set VAULT_ADDR and VAULT_TOKEN",
    });
  });
});
