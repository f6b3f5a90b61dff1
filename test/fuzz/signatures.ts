import { generateKeyPairSync } from "node:crypto";
import { parseJson } from "../../src/bytes/index.ts";
import { parseBundle, parseEnvelope } from "../../src/signing/bundle.ts";
import { parsePayload } from "../../src/signing/payload.ts";
import { parseDockerReference } from "../../src/signing/policy/docker-reference.ts";
import { readAsImageRs } from "../../src/signing/policy/image-rs.ts";
import { parsePolicy } from "../../src/signing/policy/parse.ts";
import { parseRegistriesD } from "../../src/signing/policy/registries-d.ts";
import { parseSealPredicate } from "../../src/signing/seal/predicate.ts";
import { parseStatement } from "../../src/signing/statement.ts";
import { loadPublicKey } from "../../src/signing/index.ts";
import { parseGeneralizedTime } from "../../src/signing/trust/material.ts";
import { certificatePem } from "../keywrap/certificate.ts";
import { json, text, type FuzzTarget } from "./run.ts";

const certificate = Buffer.from(certificatePem.replaceAll(/-----.*-----|\n/g, ""), "base64");
const digest = `sha256:${"ab".repeat(32)}`;
const statement = {
  _type: "https://in-toto.io/Statement/v1",
  subject: [{ name: "a", digest: { sha256: "ab".repeat(32) } }],
  predicateType: "https://sigstore.dev/cosign/sign/v1",
  predicate: {},
};
const envelope = {
  payload: json(statement).toString("base64"),
  payloadType: "application/vnd.in-toto+json",
  signatures: [{ sig: Buffer.alloc(70, 1).toString("base64"), keyid: "" }],
};
const bundle = {
  mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
  verificationMaterial: { publicKey: { hint: "YQ==" }, tlogEntries: [], timestampVerificationData: { rfc3161Timestamps: [] } },
  dsseEnvelope: envelope,
};
const keylessBundle = {
  ...bundle,
  verificationMaterial: { ...bundle.verificationMaterial, publicKey: undefined, certificate: { rawBytes: certificate.toString("base64") } },
};
const payload = {
  critical: {
    identity: { "docker-reference": "a.example/b" },
    image: { "docker-manifest-digest": digest },
    type: "cosign container image signature",
  },
  optional: { a: "b" },
};
const policy = {
  default: [{ type: "reject" }],
  transports: {
    docker: {
      "a.example/b": [{ type: "sigstoreSigned", keyPath: "/k", signedIdentity: { type: "matchRepository" } }],
      "": [{ type: "insecureAcceptAnything" }],
    },
  },
};
const publicKey = text(
  `-----BEGIN PUBLIC KEY-----\n${generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "der", type: "spki" }).toString("base64")}\n-----END PUBLIC KEY-----\n`,
);

/** Signatures, their payloads and bundles, and the policies about them. */
export function signatureTargets(): readonly FuzzTarget[] {
  const reads = (read: (value: string) => unknown) => (input: Buffer) => read(input.toString("utf8"));
  return [
    { name: "bundle", weight: 10, seeds: [json(bundle), json(keylessBundle)], run: parseBundle },
    { name: "envelope", weight: 3, seeds: [json(envelope)], run: (input) => parseEnvelope(parseJson(input, { maxBytes: 1 << 20 })) },
    { name: "simple signing payload", weight: 8, seeds: [json(payload)], run: parsePayload },
    { name: "statement", weight: 5, seeds: [json(statement)], run: parseStatement },
    { name: "seal predicate", weight: 3, seeds: [json({})], run: (input) => parseSealPredicate(parseJson(input, { maxBytes: 1 << 20 })) },
    { name: "public key", weight: 3, seeds: [publicKey], run: (input) => loadPublicKey({ bytes: input, source: "fuzz" }) },
    { name: "GeneralizedTime", weight: 2, seeds: [text("20261124061722Z")], run: reads(parseGeneralizedTime) },
    { name: "containers-policy", weight: 10, seeds: [json(policy)], run: (bytes) => parsePolicy({ bytes, source: "fuzz" }) },
    { name: "containers-policy, as image-rs", weight: 3, seeds: [json(policy)], run: readAsImageRs },
    { name: "reference in a policy", weight: 3, seeds: [text(`a.example/b:t@${digest}`)], run: reads(parseDockerReference) },
    {
      name: "registries.d",
      weight: 3,
      seeds: [text("default-docker:\n  use-sigstore-attachments: true\ndocker:\n  a.example:\n    lookaside: x\n")],
      run: (bytes) => parseRegistriesD([{ bytes, source: "fuzz" }]),
    },
  ];
}
