import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TransparencyLogEntry } from "@sigstore/protobuf-specs";
import { RekorWitness } from "@sigstore/sign";
import type { Descriptor } from "../../src/oci/index.ts";
import {
  exactly,
  loadSigningConfig,
  loadTrustedRoot,
  signImage,
  SigningError,
  verifyImage,
  type CertificateRequirement,
  type FailedCheck,
} from "../../src/signing/index.ts";
import { discover, readBundle } from "../../src/signing/discover.ts";
import { parseGeneralizedTime } from "../../src/signing/trust/material.ts";
import { memoryStore, type ContentStore } from "../../src/store/index.ts";
import { forgeBundle, forgeLegacy, simpleSigning } from "./forge.ts";
import { pushImage } from "./image.ts";
import { newSigner } from "./keys-fixture.ts";
import { identityToken, startSigstoreServices, type SigstoreServices } from "./sigstore-services.ts";

const subject = "https://ci.test/build/7";
const issuer = "https://issuer.test";

interface BundleJson {
  mediaType: string;
  verificationMaterial: {
    certificate?: { rawBytes: string };
    tlogEntries: Record<string, unknown>[];
    timestampVerificationData?: { rfc3161Timestamps: { signedTimestamp: string }[] };
  };
  dsseEnvelope: { signatures: { sig: string }[]; payload: string; payloadType: string };
}

let services: SigstoreServices;
let store: ContentStore;
let target: Descriptor;
/** Two keyless signatures of one image, by the same identity, with Rekor v1 and timestamps. */
let first: BundleJson;
let second: BundleJson;

beforeAll(async () => {
  services = await startSigstoreServices();
  store = memoryStore("memory:evidence");
  target = await pushImage(store);
  first = await keylessBundle(services, 1);
  second = await keylessBundle(services, 1);
});
afterAll(() => services.close());

async function keylessBundle(from: SigstoreServices, rekor: 1 | 2): Promise<BundleJson> {
  const own = memoryStore("memory:signing");
  const config = loadSigningConfig({
    bytes: JSON.stringify(from.signingConfig(rekor, "with-timestamps")),
    source: "sc.json",
    now: new Date(),
  });
  const signer = { kind: "keyless", identityToken: () => Promise.resolve(identityToken({ sub: subject })), services: config } as const;
  await signImage({ store: own, target, reference: "example.com/app", signer, format: "bundle", now: new Date() });
  const [candidate] = (await discover({ store: own, target, formats: ["bundle"] }, {})).candidates;
  if (candidate?.kind !== "bundle") throw new Error("no bundle was written");
  return JSON.parse((await readBundle(own, candidate, {})).toString()) as BundleJson;
}

function requirement(trustedRoot: object = services.trustedRoot): CertificateRequirement {
  const root = loadTrustedRoot({ bytes: JSON.stringify(trustedRoot), source: "trusted-root.json" });
  return {
    kind: "certificate",
    identity: { kind: "sigstore", subject: exactly(subject), issuer: exactly(issuer) },
    anchors: { kind: "trusted-root", root, certificateLog: "required" },
    log: "required",
    logAnchors: { kind: "trusted-root", root },
  };
}

async function verdictOn(bundle: unknown, rule: CertificateRequirement = requirement()): Promise<FailedCheck | "counts"> {
  const own = memoryStore("memory:forged");
  await forgeBundle(own, target, Buffer.from(JSON.stringify(bundle)));
  try {
    await verifyImage({ store: own, target, requirement: rule });
    return "counts";
  } catch (error) {
    if (!(error instanceof SigningError)) throw error;
    const { findings } = (error.details as { report: { findings: readonly { check: FailedCheck }[] } }).report;
    return findings[0]?.check ?? "limit";
  }
}

/** A copy with a part exchanged. */
function changed(change: (bundle: BundleJson, other: BundleJson) => void): BundleJson {
  const bundle = structuredClone(first);
  change(bundle, structuredClone(second));
  return bundle;
}

function flip(text: string): string {
  const bytes = Buffer.from(text, "base64");
  const at = bytes.length - 10;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes.toString("base64");
}

describe("a keyless bundle", () => {
  const entry = (bundle: BundleJson): Record<string, unknown> => bundle.verificationMaterial.tlogEntries[0] ?? {};
  const inside = (value: unknown): Record<string, unknown> => value as Record<string, unknown>;
  const cases: readonly (readonly [string, (bundle: BundleJson, other: BundleJson) => void, readonly (FailedCheck | "counts")[]])[] = [
    ["as it was written", () => undefined, ["counts"]],
    [
      "with the log entry of another signature",
      (bundle, other) => void (bundle.verificationMaterial.tlogEntries = other.verificationMaterial.tlogEntries),
      ["log"],
    ],
    [
      "with its log entry twice",
      (bundle) => void bundle.verificationMaterial.tlogEntries.push(structuredClone(entry(bundle))),
      ["log", "timestamp"],
    ],
    ["without log entry", (bundle) => void (bundle.verificationMaterial.tlogEntries = []), ["log"]],
    [
      "with a changed promise",
      (bundle) =>
        void (inside(entry(bundle)["inclusionPromise"])["signedEntryTimestamp"] = flip(
          String(inside(entry(bundle)["inclusionPromise"])["signedEntryTimestamp"]),
        )),
      ["log"],
    ],
    [
      "with another integrated time",
      (bundle) => void (entry(bundle)["integratedTime"] = String(Number(entry(bundle)["integratedTime"]) + 1)),
      ["log"],
    ],
    ["with another log index", (bundle) => void (entry(bundle)["logIndex"] = "99"), ["log"]],
    [
      "with a changed hash in its proof",
      (bundle) => {
        const proof = inside(entry(bundle)["inclusionProof"]);
        proof["hashes"] = (proof["hashes"] as string[]).map(flip);
      },
      ["log"],
    ],
    [
      "with the checkpoint of another entry",
      (bundle, other) =>
        void (inside(entry(bundle)["inclusionProof"])["checkpoint"] = inside(entry(other)["inclusionProof"])["checkpoint"]),
      ["log"],
    ],
    ["with an unknown kind of entry", (bundle) => void (inside(entry(bundle)["kindVersion"])["version"] = "9.9.9"), ["log"]],
    ["with a body that is no JSON", (bundle) => void (entry(bundle)["canonicalizedBody"] = Buffer.from("{").toString("base64")), ["log"]],
    [
      "with the certificate of another signature",
      (bundle, other) => void (bundle.verificationMaterial.certificate = other.verificationMaterial.certificate ?? { rawBytes: "" }),
      ["log"],
    ],
    [
      "with a changed certificate",
      (bundle) =>
        void (bundle.verificationMaterial.certificate = { rawBytes: flip(bundle.verificationMaterial.certificate?.rawBytes ?? "") }),
      ["log", "certificate"],
    ],
    ["with a certificate that is none", (bundle) => void (bundle.verificationMaterial.certificate = { rawBytes: "AAAA" }), ["certificate"]],
    [
      "with the timestamp of another signature",
      (bundle, other) => {
        const theirs = other.verificationMaterial.timestampVerificationData;
        if (theirs !== undefined) bundle.verificationMaterial.timestampVerificationData = theirs;
      },
      ["timestamp"],
    ],
    [
      "with its timestamp twice",
      (bundle) => {
        const stamps = bundle.verificationMaterial.timestampVerificationData?.rfc3161Timestamps ?? [];
        stamps.push(...structuredClone(stamps));
      },
      ["timestamp"],
    ],
    [
      "with a timestamp that is none",
      (bundle) => void (bundle.verificationMaterial.timestampVerificationData = { rfc3161Timestamps: [{ signedTimestamp: "AAAA" }] }),
      ["timestamp"],
    ],
    [
      "with the signature of another one",
      (bundle, other) => void (bundle.dsseEnvelope.signatures = other.dsseEnvelope.signatures),
      ["log", "timestamp"],
    ],
    [
      "with 1,000 log entries",
      (bundle) => void (bundle.verificationMaterial.tlogEntries = Array.from({ length: 1000 }, () => entry(bundle))),
      ["limit"],
    ],
  ];

  it.each(cases)("%s", async (_, change, expected) => {
    expect(expected).toContain(await verdictOn(changed(change)));
  });

  it("is refused under the trusted root of another deployment", async () => {
    const foreign = await startSigstoreServices();
    try {
      expect(["log", "certificate", "timestamp"]).toContain(await verdictOn(first, requirement(foreign.trustedRoot)));
    } finally {
      await foreign.close();
    }
  });

  it.each(["tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"])(
    "is refused when the root's %s were valid only before",
    async (part) => {
      const end = "2020-01-01T00:00:00Z";
      const start = "2019-01-01T00:00:00Z";
      const root = structuredClone(services.trustedRoot) as Record<string, { validFor?: object; publicKey?: { validFor: object } }[]>;
      for (const item of root[part] ?? []) {
        if (item.publicKey === undefined) item.validFor = { start, end };
        else item.publicKey.validFor = { start, end };
      }
      expect(["log", "certificate", "timestamp"]).toContain(await verdictOn(first, requirement(root)));
    },
  );

  it("is refused without any trusted authority", async () => {
    const empty = { mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1" };
    expect(["log", "certificate", "timestamp"]).toContain(await verdictOn(first, requirement(empty)));
  });

  it.each([
    ["an hour before the certificate", -3600_000],
    ["an hour after it", 3600_000],
  ])("dated %s is refused", async (_, offset) => {
    const skewed = await startSigstoreServices({ timestamps: new Date(Date.now() + offset) });
    try {
      const bundle = await keylessBundle(skewed, 2);
      const root = structuredClone(skewed.trustedRoot) as { timestampAuthorities: { validFor: object }[] };
      for (const item of root.timestampAuthorities) item.validFor = { start: "2020-01-01T00:00:00Z" };
      expect(["certificate", "timestamp"]).toContain(await verdictOn(bundle, requirement(root)));
    } finally {
      await skewed.close();
    }
  });
});

describe("the legacy form", () => {
  it("with a promise for another payload is refused", async () => {
    const own = memoryStore("memory:legacy");
    const config = loadSigningConfig({
      bytes: JSON.stringify(services.signingConfig(1, "without-timestamps")),
      source: "sc.json",
      now: new Date(),
    });
    const signer = { kind: "keyless", identityToken: () => Promise.resolve(identityToken({ sub: subject })), services: config } as const;
    for (const reference of ["example.com/a", "example.com/b"])
      await signImage({ store: own, target, reference, signer, format: "legacy", now: new Date() });
    const { candidates } = await discover({ store: own, target, formats: ["legacy"] }, {});
    const layers = await Promise.all(
      candidates.map(async (candidate) => {
        if (candidate.kind !== "legacy") throw new Error("not legacy");
        const chunks: Buffer[] = [];
        for await (const chunk of await own.fetch(candidate.payload)) chunks.push(chunk as Buffer);
        return { payload: Buffer.concat(chunks), annotations: candidate.annotations, mediaType: simpleSigning };
      }),
    );
    const [one, two] = layers;
    if (one === undefined || two === undefined) throw new Error("two signatures were expected");
    const promise = "dev.sigstore.cosign/bundle";
    const swapped = { ...one, annotations: { ...one.annotations, [promise]: two.annotations[promise] ?? "" } };
    const malformed = { ...one, annotations: { ...one.annotations, [promise]: '{"SignedEntryTimestamp":"","Payload":{},"extra":1}' } };
    await forgeLegacy(own, target, [swapped, malformed]);
    await expect(verifyImage({ store: own, target, requirement: requirement() })).rejects.toMatchObject({
      details: { report: { findings: [{ check: "log" }, { check: "log" }] } },
    });
  });
});

describe("what other clients log", () => {
  it("a dsse entry at Rekor v2, as sigstore-js writes it, counts", async () => {
    const bundle = changed(() => undefined);
    const { payload, payloadType, signatures } = bundle.dsseEnvelope;
    const sig = Buffer.from(signatures[0]?.sig ?? "", "base64");
    const certificate = `-----BEGIN CERTIFICATE-----\n${bundle.verificationMaterial.certificate?.rawBytes ?? ""}\n-----END CERTIFICATE-----\n`;
    const dsseEnvelope = { payloadType, payload: Buffer.from(payload, "base64"), signatures: [{ keyid: "", sig }] };
    const log = new RekorWitness({ rekorBaseURL: services.url, majorApiVersion: 2 });
    const { tlogEntries } = await log.testify({ $case: "dsseEnvelope", dsseEnvelope }, certificate);
    expect(tlogEntries[0]?.kindVersion).toEqual({ kind: "dsse", version: "0.0.2" });
    bundle.verificationMaterial.tlogEntries = tlogEntries.map((entry) => TransparencyLogEntry.toJSON(entry) as Record<string, unknown>);
    expect(await verdictOn(bundle)).toBe("counts");
  });

  it.each(["ecdsa-p256", "ecdsa-p384", "rsa"] as const)("what we log of a key of type %s at Rekor v2 counts", async (type) => {
    const config = loadSigningConfig({
      bytes: JSON.stringify(services.signingConfig(2, "without-timestamps")),
      source: "sc.json",
      now: new Date(),
    });
    const key = await newSigner(type);
    const own = memoryStore("memory:v2");
    await signImage({
      store: own,
      target,
      reference: "example.com/app",
      signer: { ...key, services: config },
      format: "bundle",
      now: new Date(),
    });
    const root = loadTrustedRoot({ bytes: JSON.stringify(services.trustedRoot), source: "trusted-root.json" });
    const logged = { kind: "keys", keys: [key.publicKey], log: "required", logAnchors: { kind: "trusted-root", root } } as const;
    expect(await verifyImage({ store: own, target, requirement: logged })).toMatchObject({ basis: "signed" });
  });
});

describe("times in timestamps", () => {
  it.each([
    ["20261124061722Z", "2026-11-24T06:17:22.000Z"],
    ["20261124061722.5Z", "2026-11-24T06:17:22.500Z"],
    ["20261124061722.84Z", "2026-11-24T06:17:22.840Z"],
    ["20261124061722.849Z", "2026-11-24T06:17:22.849Z"],
    ["20261124061722.123456Z", "2026-11-24T06:17:22.123Z"],
  ])("%s is read", (text, expected) => {
    expect(parseGeneralizedTime(text).toISOString()).toBe(expected);
  });

  it.each(["20261124061722.50Z", "20261124061722", "20261124061722+0100", "20261324061722Z", "2026112406172Z", ""])(
    "%s is refused",
    (text) => {
      expect(() => parseGeneralizedTime(text)).toThrow(expect.objectContaining({ code: "ERR_SIGNATURE_MALFORMED" }));
    },
  );
});

describe("a trusted root file", () => {
  it.each([
    ["no JSON", "x"],
    ["a list", "[]"],
    ["another document", `{"mediaType":"application/json"}`],
    ["a member twice", `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[],"tlogs":[]}`],
  ])("that is %s is refused", (_, bytes) => {
    expect(() => loadTrustedRoot({ bytes, source: "tr.json" })).toThrow(expect.objectContaining({ code: "ERR_TRUSTED_ROOT_MALFORMED" }));
  });

  it("with a key that is none is refused when it is needed", async () => {
    const root = structuredClone(services.trustedRoot) as { tlogs: { publicKey: { rawBytes: string } }[] };
    for (const log of root.tlogs) log.publicKey.rawBytes = "AAAA";
    const own = memoryStore("memory:forged");
    await forgeBundle(own, target, Buffer.from(JSON.stringify(first)));
    await expect(verifyImage({ store: own, target, requirement: requirement(root) })).rejects.toMatchObject({
      code: "ERR_TRUSTED_ROOT_MALFORMED",
    });
  });
});
