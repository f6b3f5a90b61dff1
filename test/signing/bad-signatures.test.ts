import { randomBytes } from "node:crypto";
import { assert, asyncProperty, nat } from "fast-check";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { ToolError } from "../../src/errors/index.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { signImage, signImageTree, SigningError, verifyImage, type FailedCheck, type KeySigner } from "../../src/signing/index.ts";
import { memoryStore, type ContentStore } from "../../src/store/index.ts";
import { forgeBundle, forgeLegacy, signatureAnnotation, signedBundle, signedLayer, type ForgedLayer } from "./forge.ts";
import { pushImage, pushIndex } from "./image.ts";
import { newSigner } from "./keys-fixture.ts";

const now = new Date("2026-01-02T03:04:05Z");
const signType = "https://sigstore.dev/cosign/sign/v1";

let signer: KeySigner;
let store: ContentStore;
let target: Descriptor;

beforeAll(async () => {
  signer = await newSigner();
});

beforeEach(async () => {
  store = memoryStore("memory:bad");
  target = await pushImage(store);
});

const requirement = () => ({ kind: "keys", keys: [signer.publicKey], log: "if-present" }) as const;
const verify = () => verifyImage({ store, target, requirement: requirement() });

async function failedChecks(): Promise<readonly (FailedCheck | "counts")[]> {
  try {
    await verify();
  } catch (error) {
    if (error instanceof SigningError) {
      const { report } = error.details as { report: { findings: readonly { verdict: string; check: FailedCheck }[] } };
      return report.findings.map(({ verdict, check }) => (verdict === "counts" ? "counts" : check));
    }
    throw error;
  }
  return ["counts"];
}

function payload(digest: string = target.digest): string {
  return `{"critical":{"identity":{"docker-reference":"example.com/app"},"image":{"docker-manifest-digest":"${digest}"},"type":"cosign container image signature"},"optional":null}`;
}

function statement(digest: string = target.digest, predicateType: string = signType): string {
  const subject = [{ digest: { sha256: digest.replace("sha256:", "") } }];
  return JSON.stringify({ _type: "https://in-toto.io/Statement/v1", subject, predicateType, predicate: {} });
}

describe("a really signed payload", () => {
  const other = `sha256:${"0".repeat(64)}`;
  const cases: readonly (readonly [string, (text: string) => string, FailedCheck | "counts"])[] = [
    ["as cosign writes it", (text) => text, "counts"],
    [
      "pretty-printed, with nested optional values",
      (text) => JSON.stringify({ ...(JSON.parse(text) as object), optional: { a: { b: [1] } } }, null, 2),
      "counts",
    ],
    ["of the type that GnuPG signatures have", (text) => text.replace("cosign container", "atomic container"), "payload"],
    [
      "with the digest's name in the spelling of the specification",
      (text) => text.replace('"docker-manifest', '"Docker-manifest'),
      "payload",
    ],
    ["with one more member at the top", (text) => text.replace(/\}$/, ',"extra":1}'), "payload"],
    ["with one more member inside", (text) => text.replace('"type"', '"extra":1,"type"'), "payload"],
    [
      "with the digest twice, ours last",
      (text) => text.replace('{"docker-manifest-digest"', `{"docker-manifest-digest":"${other}","docker-manifest-digest"`),
      "payload",
    ],
    ["without optional", (text) => text.replace(',"optional":null', ""), "payload"],
    ["with optional as text", (text) => text.replace('"optional":null', '"optional":"x"'), "payload"],
    ["with a digest that is none", (text) => text.replace(/sha256:[0-9a-f]+/, "latest"), "payload"],
    ["that is no JSON", () => "signed, trust me", "payload"],
    ["of another image", (text) => text.replace(/sha256:[0-9a-f]+/, other), "digest"],
  ];

  it.each(cases)("%s", async (_, change, expected) => {
    await forgeLegacy(store, target, [await signedLayer(signer, change(payload()))]);
    expect(await failedChecks()).toEqual([expected]);
  });
});

describe("a legacy layer", () => {
  const cases: readonly (readonly [string, (layer: ForgedLayer) => ForgedLayer, FailedCheck | "counts"])[] = [
    ["of another media type", (layer) => ({ ...layer, mediaType: "application/json" }), "media-type"],
    [
      "with line breaks in its base64",
      (layer) => ({
        ...layer,
        annotations: { [signatureAnnotation]: (layer.annotations[signatureAnnotation] ?? "").replace(/.{40}/g, "$&\n") },
      }),
      "counts",
    ],
    ["without signature", (layer) => ({ ...layer, annotations: {} }), "payload"],
    ["with an empty signature", (layer) => ({ ...layer, annotations: { [signatureAnnotation]: "" } }), "payload"],
    ["with a signature that is no base64", (layer) => ({ ...layer, annotations: { [signatureAnnotation]: "***" } }), "payload"],
    [
      "with random bytes for a signature",
      (layer) => ({ ...layer, annotations: { [signatureAnnotation]: randomBytes(71).toString("base64") } }),
      "key",
    ],
    [
      "with a changed payload",
      (layer) => ({ ...layer, payload: Buffer.from(layer.payload.toString().replace("example.com", "attacker.test")) }),
      "key",
    ],
  ];

  it.each(cases)("%s", async (_, change, expected) => {
    await forgeLegacy(store, target, [change(await signedLayer(signer, payload()))]);
    expect(await failedChecks()).toEqual([expected]);
  });

  it("whose payload is not in the store is missing, not an outage", async () => {
    const layer = await signedLayer(signer, payload());
    await forgeLegacy(store, target, [layer]);
    await store.remove({ mediaType: "application/octet-stream", digest: digestOf(layer.payload), size: layer.payload.length });
    expect(await failedChecks()).toEqual(["unreadable"]);
  });
});

describe("a really signed bundle", () => {
  const envelope = (bundle: Record<string, unknown>) => bundle["dsseEnvelope"] as { signatures: readonly object[]; payload: string };
  type Change = (bundle: Record<string, unknown>) => unknown;
  const cases: readonly (readonly [string, () => string, Change, FailedCheck | "counts"])[] = [
    ["as cosign writes it", () => statement(), (bundle) => bundle, "counts"],
    ["with a statement of version 0.1", () => statement().replace("Statement/v1", "Statement/v0.1"), (bundle) => bundle, "counts"],
    ["without predicate, as cosign up to 3.0.4", () => statement().replace(',"predicate":{}', ""), (bundle) => bundle, "counts"],
    [
      "with a wrong hint",
      () => statement(),
      (bundle) => ({ ...bundle, verificationMaterial: { publicKey: { hint: "somebody else" } } }),
      "counts",
    ],
    ["of another image", () => statement(`sha256:${"0".repeat(64)}`), (bundle) => bundle, "digest"],
    [
      "whose subject is another by sha512 and ours by name",
      () => statement().replace('"sha256"', '"sha512"'),
      (bundle) => bundle,
      "digest",
    ],
    ["that attests an SBOM and no signature", () => statement(target.digest, "https://spdx.dev/Document"), (bundle) => bundle, "predicate"],
    ["of an unknown statement type", () => statement().replace("in-toto.io", "example.com"), (bundle) => bundle, "payload"],
    ["with its predicate type twice", () => statement().replace("{", `{"predicateType":"x",`), (bundle) => bundle, "payload"],
    [
      "with a certificate instead of a key",
      () => statement(),
      (bundle) => ({ ...bundle, verificationMaterial: { certificate: { rawBytes: "" } } }),
      "key",
    ],
    [
      "with a certificate chain",
      () => statement(),
      (bundle) => ({ ...bundle, verificationMaterial: { x509CertificateChain: { certificates: [] } } }),
      "payload",
    ],
    ["with no material", () => statement(), (bundle) => ({ ...bundle, verificationMaterial: {} }), "payload"],
    [
      "of version 0.1",
      () => statement(),
      (bundle) => ({ ...bundle, mediaType: "application/vnd.dev.sigstore.bundle+json;version=0.1" }),
      "payload",
    ],
    [
      "of version 0.4",
      () => statement(),
      (bundle) => ({ ...bundle, mediaType: "application/vnd.dev.sigstore.bundle.v0.4+json" }),
      "payload",
    ],
    [
      "with two signatures",
      () => statement(),
      (bundle) => ({
        ...bundle,
        dsseEnvelope: { ...envelope(bundle), signatures: [...envelope(bundle).signatures, ...envelope(bundle).signatures] },
      }),
      "payload",
    ],
    ["with no signature", () => statement(), (bundle) => ({ ...bundle, dsseEnvelope: { ...envelope(bundle), signatures: [] } }), "payload"],
    [
      "with another payload type",
      () => statement(),
      (bundle) => ({ ...bundle, dsseEnvelope: { ...envelope(bundle), payloadType: "text/plain" } }),
      "payload",
    ],
    [
      "with another statement than was signed",
      () => statement(),
      (bundle) => ({
        ...bundle,
        dsseEnvelope: { ...envelope(bundle), payload: Buffer.from(statement(`sha256:${"1".repeat(64)}`)).toString("base64") },
      }),
      "key",
    ],
    ["with a message signature beside the envelope", () => statement(), (bundle) => ({ ...bundle, messageSignature: {} }), "payload"],
    ["without envelope", () => statement(), ({ mediaType, verificationMaterial }) => ({ mediaType, verificationMaterial }), "payload"],
    ["that is a list", () => statement(), (bundle) => [bundle], "payload"],
  ];

  it.each(cases)("%s", async (_, text, change, expected) => {
    await forgeBundle(store, target, await signedBundle(signer, text(), change));
    expect(await failedChecks()).toEqual([expected]);
  });

  it("of another image, copied beside this one, is not believed", async () => {
    const other = await pushImage(store);
    await forgeBundle(store, target, await signedBundle(signer, statement(other.digest)));
    expect(await failedChecks()).toEqual(["digest"]);
  });

  it("is found out with any one bit flipped or cut short", async () => {
    const good = await signedBundle(signer, statement());
    await assert(
      asyncProperty(nat(good.length - 1), nat(7), async (at, bit) => {
        const flipped = Buffer.from(good);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
        const cut = good.subarray(0, at);
        for (const bytes of [flipped, cut]) {
          const own = memoryStore("memory:bit");
          await forgeBundle(own, target, bytes);
          const verdict = await verifyImage({ store: own, target, requirement: requirement() }).then(
            () => "counts",
            (error: unknown) => (error instanceof SigningError ? error.code : String(error)),
          );
          // A flipped bit in the unsigned hint or in a member's name that stays unknown changes nothing that is signed.
          const isUnsigned = JSON.stringify(unsigned(bytes)) === JSON.stringify(unsigned(good));
          expect(verdict).toBe(isUnsigned ? "counts" : "ERR_SIGNATURE_REJECTED");
        }
      }),
      { numRuns: 60 },
    );
  });

  /** What of a bundle is signed or decides how it is read. */
  function unsigned(bytes: Buffer): unknown {
    try {
      const { mediaType, dsseEnvelope, verificationMaterial } = JSON.parse(bytes.toString()) as Record<string, Record<string, unknown>>;
      const { payload: body, payloadType, signatures } = dsseEnvelope ?? {};
      return [
        mediaType,
        body,
        payloadType,
        (signatures as readonly { sig: string }[])[0]?.sig,
        Object.keys(verificationMaterial ?? {}),
        typeof verificationMaterial?.["publicKey"],
      ];
    } catch {
      return undefined;
    }
  }
});

describe("signatures together", () => {
  it("a bundle by somebody else does not hide a good .sig, nor the reverse", async () => {
    const stranger = await newSigner();
    await forgeBundle(store, target, await signedBundle(stranger, statement()));
    await forgeLegacy(store, target, [await signedLayer(stranger, payload()), await signedLayer(signer, payload())]);
    const { signatures, report } = await verify();
    expect(signatures).toMatchObject([{ format: "legacy", location: expect.stringContaining("layer 1") }]);
    expect(report.findings.map(({ verdict }) => verdict)).toEqual(["rejected", "counts", "rejected"]);
  });

  it("a foreign document under the .sig tag does not hide a good bundle", async () => {
    await forgeBundle(store, target, await signedBundle(signer, statement()));
    await store.tag((await pushIndex(store)).index, `${target.digest.replace(":", "-")}.sig`);
    expect(await failedChecks()).toEqual(["counts"]);
  });

  it("1,000 bogus ones of each format do not hide a good one, and the verdict is right without it", async () => {
    const stranger = await newSigner();
    const bogus = await Promise.all(
      Array.from({ length: 999 }, async (_, i) => await signedLayer(stranger, payload(`sha256:${i.toString(16).padStart(64, "0")}`))),
    );
    const bundles = await Promise.all(
      Array.from({ length: 1000 }, async (_, i) => await signedBundle(stranger, statement(`sha256:${i.toString(16).padStart(64, "0")}`))),
    );
    for (const bundle of bundles) await forgeBundle(store, target, bundle);
    await forgeLegacy(store, target, bogus);
    await expect(verify()).rejects.toMatchObject({ code: "ERR_SIGNATURE_REJECTED", message: expect.stringMatching(/and 1996 more\)$/) });
    await forgeLegacy(store, target, [...bogus, await signedLayer(signer, payload())]);
    expect((await verify()).signatures).toMatchObject([{ location: expect.stringContaining("layer 999") }]);
  });

  it("more than are examined end in their own error, and say how many were left out", async () => {
    const stranger = await newSigner();
    const layer = await signedLayer(stranger, payload());
    await forgeLegacy(
      store,
      target,
      Array.from({ length: 1005 }, () => layer),
    );
    await expect(verify()).rejects.toMatchObject({
      code: "ERR_SIGNATURE_LIMIT",
      message: expect.stringContaining("5 more were not examined"),
    });
  });

  it("too large ones are not read", async () => {
    const huge = Buffer.alloc(1024 * 1024 + 1, 0x20);
    await forgeLegacy(store, target, [
      { payload: huge, annotations: { [signatureAnnotation]: "AAAA" } },
      await signedLayer(signer, payload()),
    ]);
    const { report } = await verify();
    expect(report.findings).toMatchObject([{ check: "limit" }, { verdict: "counts" }]);
  });

  it("an index's signature says nothing about a member pulled by its own digest, until the tree is signed", async () => {
    const { index, members } = await pushIndex(store);
    const [member = index] = members;
    await signImage({ store, target: index, reference: "example.com/app", signer, format: "both", now });
    await expect(verifyImage({ store, target: member, requirement: requirement() })).rejects.toMatchObject({
      code: "ERR_SIGNATURE_MISSING",
    });
    const signed = await signImageTree({ store, target: index, reference: "example.com/app", signer, format: "both", now });
    expect(signed.map(({ target: { digest } }) => digest)).toEqual([...members.map(({ digest }) => digest), index.digest]);
    expect(await verifyImage({ store, target: member, requirement: requirement() })).toMatchObject({ basis: "signed" });
  });
});

describe("a store that fails", () => {
  class Outage extends ToolError<"ERR_TEST_OUTAGE"> {
    constructor() {
      super("ERR_TEST_OUTAGE", "unavailable", { message: "502" });
    }
  }
  const outage = new Outage();

  /** The store, with some methods replaced. */
  function failing(methods: Partial<ContentStore>): ContentStore {
    return new Proxy(store, {
      get: (whole, name: keyof ContentStore) => {
        const method: unknown = methods[name] ?? whole[name];
        return typeof method === "function" ? (method.bind(whole) as unknown) : method;
      },
    });
  }

  it("while listing is an error, never an image without signatures", async () => {
    const broken = failing({ referrers: () => Promise.reject(outage) });
    await expect(verifyImage({ store: broken, target, requirement: requirement() })).rejects.toBe(outage);
  });

  it("while reading one signature is an error only when no other counts", async () => {
    await forgeLegacy(store, target, [await signedLayer(signer, payload())]);
    const bundle = await forgeBundle(store, target, await signedBundle(signer, statement()));
    const broken = failing({
      fetch: (wanted, options) => (wanted.digest === bundle.digest ? Promise.reject(outage) : store.fetch(wanted, options)),
    });
    expect(await verifyImage({ store: broken, target, requirement: requirement() })).toMatchObject({ basis: "signed" });
    await store.remove(`${target.digest.replace(":", "-")}.sig`);
    await expect(verifyImage({ store: broken, target, requirement: requirement() })).rejects.toBe(outage);
  });
});
