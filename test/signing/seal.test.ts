import { beforeEach, describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import {
  attestImage,
  attestSeal,
  keepSourceSignatures,
  listCompanions,
  parsePolicy,
  publicPemOf,
  rebindReferrers,
  requireSealedLayer,
  requireSealedPlaintext,
  sealPredicate,
  signImage,
  verifyImage,
  verifySealAttestation,
  type KeySigner,
  type SealFacts,
} from "../../src/signing/index.ts";
import { memoryStore, type ContentStore } from "../../src/store/index.ts";
import { pushBytes, pushImage } from "./image.ts";
import { newSigner } from "./keys-fixture.ts";

const now = new Date("2026-01-02T03:04:05Z");
const ciphertext = digestOf(Buffer.from("ciphertext"));
const plaintext = digestOf(Buffer.from("plaintext"));

let store: ContentStore;
let target: Descriptor;
let signer: KeySigner;
let facts: SealFacts;

beforeEach(async () => {
  store = memoryStore("memory:sealed");
  target = await pushImage(store);
  signer = await newSigner();
  facts = {
    plaintext: { mediaType: mediaTypes.manifest, digest: plaintext, size: 1234 },
    layers: [{ ciphertext, plaintext, cipher: "AES_256_GCM_C2SP_CHUNKED_V1" }],
    recipients: ["kbs:///default/image-key/1"],
    sourceSignatures: [{ format: "legacy", signatory: "key:00" }],
    referrers: [],
    tool: { name: "ociseal", version: "0.1.0" },
    sealedAt: now,
  };
});

const byKey = (key: KeySigner) => ({ kind: "keys", keys: [key.publicKey], log: "if-present" }) as const;

describe("the attestation on a sealed image", () => {
  it("says again what was stated, to whoever trusts the key", async () => {
    await attestSeal({ store, target, signer, facts, now });
    const seal = await verifySealAttestation({ store, target, requirement: byKey(signer) });
    expect(seal.facts).toEqual(facts);
    expect(() => requireSealedPlaintext(seal, plaintext)).not.toThrow();
    expect(() => requireSealedLayer(seal, { ciphertext, plaintext })).not.toThrow();
  });

  it("is never the only bundle: a signature bundle of the same key stands beside it", async () => {
    expect(await attestSeal({ store, target, signer, facts, now })).toMatchObject({ signature: "added" });
    expect(await verifyImage({ store, target, requirement: byKey(signer) })).toMatchObject({ basis: "signed" });
    const annotated = await pushImage(store);
    await signImage({ store, target: annotated, reference: "example.com/app", signer, format: "both", annotations: { a: "b" }, now });
    expect(await attestSeal({ store, target: annotated, signer, facts, now })).toMatchObject({ signature: "present" });
  });

  it("does not count as a signature of the image", async () => {
    const other = await newSigner();
    await attestSeal({ store, target, signer, facts, now });
    const { report } = await verifyImage({ store, target, requirement: byKey(signer) });
    expect(report.findings).toContainEqual(expect.objectContaining({ verdict: "rejected", check: "predicate" }));
    await expect(verifySealAttestation({ store, target, requirement: byKey(other) })).rejects.toMatchObject({
      code: "ERR_SIGNATURE_REJECTED",
    });
  });

  it("is missed where there is only a signature", async () => {
    await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
    await expect(verifySealAttestation({ store, target, requirement: byKey(signer) })).rejects.toMatchObject({
      code: "ERR_SIGNATURE_REJECTED",
      message: expect.stringContaining(sealPredicate),
    });
  });

  it("is refused when two of the same key tell different stories", async () => {
    await attestSeal({ store, target, signer, facts, now });
    await attestSeal({ store, target, signer, facts: { ...facts, plaintext: { ...facts.plaintext, digest: ciphertext } }, now });
    await expect(verifySealAttestation({ store, target, requirement: byKey(signer) })).rejects.toMatchObject({
      code: "ERR_SEAL_ATTESTATION_AMBIGUOUS",
    });
  });

  it("is refused when its predicate is malformed, though the signature is good", async () => {
    await attestImage({ store, target, signer, predicateType: sealPredicate, predicate: { plaintext: {} }, now });
    await expect(verifySealAttestation({ store, target, requirement: byKey(signer) })).rejects.toMatchObject({
      code: "ERR_SIGNATURE_MALFORMED",
    });
  });

  it("catches another plaintext, and another layer", async () => {
    await attestSeal({ store, target, signer, facts, now });
    const seal = await verifySealAttestation({ store, target, requirement: byKey(signer) });
    const wrong = expect.objectContaining({ code: "ERR_SEAL_PLAINTEXT_MISMATCH" });
    expect(() => requireSealedPlaintext(seal, ciphertext)).toThrow(wrong);
    expect(() => requireSealedLayer(seal, { ciphertext, plaintext: ciphertext })).toThrow(wrong);
    expect(() => requireSealedLayer(seal, { ciphertext: plaintext, plaintext })).toThrow(wrong);
  });

  it("is demanded of whom a policy names for the image", async () => {
    await attestSeal({ store, target, signer, facts, now });
    const subject = { transport: "docker", reference: "example.com/app:1" } as const;
    const policyFor = (requirement: object) => parsePolicy({ bytes: JSON.stringify({ default: [requirement] }), source: "policy.json" });
    const keyData = Buffer.from(publicPemOf(signer.publicKey.key)).toString("base64");
    const verify = (requirement: object) =>
      verifySealAttestation({ store, target, requirement: { kind: "policy", policy: policyFor(requirement), subject } });
    expect((await verify({ type: "sigstoreSigned", keyData })).facts).toEqual(facts);
    await expect(verify({ type: "insecureAcceptAnything" })).rejects.toMatchObject({ code: "ERR_SEAL_ATTESTATION_UNVERIFIABLE" });
  });

  it("cannot be made with the predicate type of an image signature", async () => {
    const failing = attestImage({ store, target, signer, predicateType: "https://sigstore.dev/cosign/sign/v1", predicate: {}, now });
    await expect(failing).rejects.toMatchObject({ code: "ERR_SIGNING_UNSUPPORTED" });
  });
});

describe("what stands beside the source", () => {
  it("is listed by what it is, not by what the list says", async () => {
    await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
    await pushSbom(store, target);
    const companions = await listCompanions(store, target);
    expect(companions).toMatchObject({ legacySignatures: 1, bundles: [{}], others: [{ artifactType: "application/spdx+json" }] });
  });

  it("verifies at the destination under the plaintext digest, where that image is not", async () => {
    await signImage({ store, target, reference: "example.com/app", signer, format: "both", now });
    const destination = memoryStore("memory:destination");
    expect(await keepSourceSignatures({ source: store, from: target, destination })).toEqual({ legacy: 1, bundles: 1 });
    const { signatures } = await verifyImage({ store: destination, target, requirement: byKey(signer) });
    expect(signatures.map(({ format }) => format).sort()).toEqual(["bundle", "legacy"]);
  });

  it("follows to the sealed image when asked, bound by its attestation", async () => {
    const source = memoryStore("memory:source");
    const from = await pushImage(source);
    await pushSbom(source, from);
    const { others } = await listCompanions(source, from);
    const referrers = await rebindReferrers({ source, from, destination: store, to: target, companions: others });
    await attestSeal({ store, target, signer, facts: { ...facts, referrers }, now });
    const seal = await verifySealAttestation({ store, target, requirement: byKey(signer) });
    const beside = await listCompanions(store, target);
    expect(beside.others.map(({ descriptor }) => descriptor.digest)).toEqual(seal.facts.referrers.map(({ bound }) => bound));
  });
});

async function pushSbom(to: ContentStore, subject: Descriptor): Promise<Descriptor> {
  const config = await pushBytes(to, mediaTypes.empty, Buffer.from("{}"));
  const layer = await pushBytes(to, "application/spdx+json", Buffer.from(`{"spdxVersion":"SPDX-2.3"}`));
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType: "application/spdx+json",
    config,
    layers: [layer],
    subject,
  };
  return await pushBytes(to, mediaTypes.manifest, serializeJson(manifest));
}
