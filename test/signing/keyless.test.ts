import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRegistry } from "../../src/registry/index.ts";
import {
  exactly,
  loadSigningConfig,
  loadTrustedRoot,
  matchingWhole,
  parsePolicy,
  publicPemOf,
  signImage,
  verifyImage,
  type CertificateRequirement,
  type KeylessSigner,
  type TextRule,
} from "../../src/signing/index.ts";
import { memoryStore, type ContentStore } from "../../src/store/index.ts";
import { missingPeers } from "../peers.ts";
import { pushImage } from "./image.ts";
import { newSigner } from "./keys-fixture.ts";
import { removeFolder, run, startDockerRegistry, temporaryFolder } from "./programs.ts";
import { identityToken, startSigstoreServices, type SigstoreServices } from "./sigstore-services.ts";

const subject = "https://ci.test/build/7";
const issuer = "https://issuer.test";

let services: SigstoreServices;
beforeAll(async () => {
  services = await startSigstoreServices();
});
afterAll(() => services.close());

function servicesFor(rekor: 1 | 2 | undefined, timestamps: "with-timestamps" | "without-timestamps" = "with-timestamps") {
  return loadSigningConfig({
    bytes: JSON.stringify(services.signingConfig(rekor, timestamps)),
    source: "signing-config.json",
    now: new Date(),
  });
}

function keylessSigner(
  rekor: 1 | 2 | undefined,
  timestamps: "with-timestamps" | "without-timestamps" = "with-timestamps",
  token = identityToken({ sub: subject }),
): KeylessSigner {
  return { kind: "keyless", identityToken: () => Promise.resolve(token), services: servicesFor(rekor, timestamps) };
}

function requirement(
  rules: { readonly subject?: TextRule; readonly issuer?: TextRule } = {},
  log: CertificateRequirement["log"] = "required",
): CertificateRequirement {
  const root = loadTrustedRoot({ bytes: JSON.stringify(services.trustedRoot), source: "trusted-root.json" });
  return {
    kind: "certificate",
    identity: { kind: "sigstore", subject: rules.subject ?? exactly(subject), issuer: rules.issuer ?? exactly(issuer) },
    anchors: { kind: "trusted-root", root, certificateLog: "required" },
    log,
    logAnchors: { kind: "trusted-root", root },
  };
}

async function signedBy(
  signer: Parameters<typeof signImage>[0]["signer"],
  format: "both" | "legacy" | "bundle" = "both",
  store: ContentStore = memoryStore("memory:keyless"),
) {
  const target = await pushImage(store);
  const signed = await signImage({ store, target, reference: "example.com/app", signer, format, now: new Date() });
  return { store, target, signed };
}

describe("keyless signatures", () => {
  it("in both formats, logged at Rekor v1, verify for the exact identity", async () => {
    const { store, target } = await signedBy(keylessSigner(1));
    const { signatures } = await verifyImage({ store, target, requirement: requirement() });
    expect(signatures).toMatchObject([
      { format: "legacy", signatory: { kind: "certificate", subject, issuer }, evidence: { log: "verified" } },
      { format: "bundle", signatory: { kind: "certificate", subject, issuer }, evidence: { log: "verified" } },
    ]);
  });

  it("logged at Rekor v2 come as a bundle alone, dated by the timestamp authority", async () => {
    const { store, target, signed } = await signedBy(keylessSigner(2));
    expect(signed.legacy).toBeUndefined();
    const { signatures } = await verifyImage({ store, target, requirement: requirement() });
    expect(signatures).toMatchObject([{ format: "bundle", evidence: { log: "verified", times: [expect.any(String)] } }]);
  });

  it("at Rekor v2 without timestamp have no time, and do not count", async () => {
    const { store, target } = await signedBy(keylessSigner(2, "without-timestamps"));
    await expect(verifyImage({ store, target, requirement: requirement() })).rejects.toMatchObject({
      details: { report: { findings: [{ check: "timestamp" }] } },
    });
  });

  it("without log count only where the log is not required", async () => {
    const { store, target } = await signedBy(keylessSigner(undefined), "bundle");
    await expect(verifyImage({ store, target, requirement: requirement() })).rejects.toMatchObject({
      details: { report: { findings: [{ check: "log" }] } },
    });
    expect(await verifyImage({ store, target, requirement: requirement({}, "if-present") })).toMatchObject({ basis: "signed" });
  });

  it("count for no other identity: not for a part of it, not for a longer one, not for another issuer", async () => {
    const { store, target } = await signedBy(keylessSigner(1));
    const wrong = [
      { subject: exactly(subject.slice(0, -1)) },
      { subject: exactly(`${subject}0`) },
      { subject: exactly(subject.replace("ci.test", "ci-test")) },
      { subject: matchingWhole("build") },
      { issuer: exactly("https://issuer.tes") },
      { issuer: matchingWhole("issuer") },
    ];
    for (const rules of wrong) {
      const failing = verifyImage({ store, target, requirement: requirement(rules) });
      await expect(failing).rejects.toMatchObject({ details: { report: { findings: [{ check: "identity" }, { check: "identity" }] } } });
    }
    expect(
      await verifyImage({ store, target, requirement: requirement({ subject: matchingWhole("https://ci\\.test/.+") }) }),
    ).toMatchObject({ basis: "signed" });
  });

  it("count under no key, and signatures by keys under no identity", async () => {
    const key = await newSigner();
    const keyless = await signedBy(keylessSigner(1));
    const byKey = { kind: "keys", keys: [key.publicKey], log: "if-present" } as const;
    await expect(verifyImage({ ...keyless, requirement: byKey })).rejects.toMatchObject({ code: "ERR_SIGNATURE_REJECTED" });
    const keyed = await signedBy(key);
    await expect(verifyImage({ ...keyed, requirement: requirement() })).rejects.toMatchObject({
      details: { report: { findings: [{ check: "certificate" }, { check: "certificate" }] } },
    });
  });

  it("satisfy a policy that names the authority, the log and an e-mail only by e-mail", async () => {
    const { store, target } = await signedBy(keylessSigner(1), "legacy");
    const data = (pem: string) => Buffer.from(pem).toString("base64");
    const fulcio = { caData: data(services.caPem), oidcIssuer: issuer, subjectEmail: "me@example.test" };
    const item = {
      type: "sigstoreSigned",
      fulcio,
      rekorPublicKeyData: data(publicPemOf(services.rekorKey)),
      signedIdentity: { type: "matchRepository" },
    };
    const policy = parsePolicy({ bytes: JSON.stringify({ default: [item] }), source: "policy.json" });
    const failing = verifyImage({
      store,
      target,
      requirement: { kind: "policy", policy, subject: { transport: "docker", reference: "example.com/app:1" } },
    });
    // Everything else held: chain at the promised time, and the promise. The identity is a URI.
    await expect(failing).rejects.toMatchObject({
      code: "ERR_POLICY_REJECTED",
      details: { report: { findings: [{ check: "identity" }] } },
    });
  });
});

describe("logged signatures by a key", () => {
  it("satisfy the demand for a log, and a policy with the log's key", async () => {
    const plain = await newSigner();
    const { store, target } = await signedBy({ ...plain, services: servicesFor(1, "without-timestamps") });
    const root = loadTrustedRoot({ bytes: JSON.stringify(services.trustedRoot), source: "trusted-root.json" });
    const logged = { kind: "keys", keys: [plain.publicKey], log: "required", logAnchors: { kind: "trusted-root", root } } as const;
    expect((await verifyImage({ store, target, requirement: logged })).signatures).toMatchObject([
      { evidence: { log: "verified" } },
      { evidence: { log: "verified" } },
    ]);
    const data = (pem: string) => Buffer.from(pem).toString("base64");
    const item = {
      type: "sigstoreSigned",
      keyData: data(publicPemOf(plain.publicKey.key)),
      rekorPublicKeyData: data(publicPemOf(services.rekorKey)),
    };
    const policyOf = (requirementItem: object) =>
      parsePolicy({
        bytes: JSON.stringify({ default: [{ ...requirementItem, signedIdentity: { type: "matchRepository" } }] }),
        source: "policy.json",
      });
    const subjectOf = { transport: "docker", reference: "example.com/app:1" } as const;
    expect(await verifyImage({ store, target, requirement: { kind: "policy", policy: policyOf(item), subject: subjectOf } })).toMatchObject(
      { basis: "signed" },
    );
    const other = { ...item, rekorPublicKeyData: data(publicPemOf(plain.publicKey.key)) };
    await expect(
      verifyImage({ store, target, requirement: { kind: "policy", policy: policyOf(other), subject: subjectOf } }),
    ).rejects.toMatchObject({ code: "ERR_POLICY_REJECTED" });
  });

  it("do not count without anything to check the entry by, unless the log is to be ignored", async () => {
    const plain = await newSigner();
    const { store, target } = await signedBy({ ...plain, services: servicesFor(2, "without-timestamps") });
    const byKey = (log: "if-present" | "ignore") => ({ kind: "keys", keys: [plain.publicKey], log }) as const;
    await expect(verifyImage({ store, target, requirement: byKey("if-present") })).rejects.toMatchObject({
      details: { report: { findings: [{ check: "log" }] } },
    });
    expect(await verifyImage({ store, target, requirement: byKey("ignore") })).toMatchObject({ basis: "signed" });
  });
});

describe("what goes wrong while signing without a key", () => {
  it.each([
    ["not a token", "garbage"],
    ["claims that are no JSON", "a.!!!.c"],
    ["an expired token", identityToken({ sub: "x", exp: 1 })],
    ["an e-mail that the issuer did not verify", identityToken({ email: "me@example.test", email_verified: false })],
  ])("%s: refused without repeating it", async (_, token) => {
    const failing = signedBy(keylessSigner(1, "with-timestamps", token));
    await expect(failing).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_(IDENTITY_TOKEN|SIGNING_SERVICE)$/) });
    await expect(failing).rejects.not.toMatchObject({ message: expect.stringContaining(token) });
  });
});

describe.skipIf(missingPeers("cosign-3.1", "cosign-2.5", "docker-registry"))("keyless with real cosign and a private trusted root", () => {
  it("goes both ways", async () => {
    const registry = await startDockerRegistry();
    const folder = temporaryFolder();
    const store = openRegistry({ host: registry.host, repository: "keyless" });
    try {
      writeFileSync(join(folder, "tr.json"), JSON.stringify(services.trustedRoot));
      writeFileSync(join(folder, "sc.json"), JSON.stringify(services.signingConfig(1, "without-timestamps")));
      writeFileSync(join(folder, "token"), identityToken({ sub: subject }));
      const verify = ["verify", "--trusted-root", "tr.json", "--certificate-identity", subject, "--certificate-oidc-issuer", issuer];
      for (const signer of [keylessSigner(1), keylessSigner(2)]) {
        const { target } = await signedBy(signer, "both", store);
        const image = `${registry.host}/keyless@${target.digest}`;
        expect(await run("cosign-3.1", [...verify, image], {}, folder)).toMatchObject({ code: 0 });
        if (signer.services.rekor?.majorApiVersion === 2) continue;
        const legacy = await run("cosign-3.1", [...verify, "--new-bundle-format=false", image], {}, folder);
        expect(legacy).toMatchObject({ code: 0 });
      }
      const theirs = await pushImage(store);
      const image = `${registry.host}/keyless@${theirs.digest}`;
      const sign = ["sign", "--identity-token", "token", "--signing-config", "sc.json", "--trusted-root", "tr.json", "--yes", image];
      expect(await run("cosign-3.1", sign, {}, folder)).toMatchObject({ code: 0 });
      const { signatures } = await verifyImage({ store, target: theirs, requirement: requirement() });
      expect(signatures).toMatchObject([{ format: "bundle", signatory: { subject, issuer }, evidence: { log: "verified" } }]);
    } finally {
      await store.close();
      await registry.stop();
      removeFolder(folder);
    }
  });
});
