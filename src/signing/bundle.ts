import { createHash } from "node:crypto";
import { decodeBase64, parseJson } from "../bytes/index.ts";
import { signatureLimits, signatureTypes } from "./formats.ts";
import { spkiOf, type PublicKey } from "./keys/public-key.ts";
import { aList, aText, anObject, exactText, malformedSignature, type JsonObject } from "./shape.ts";

/** A DSSE envelope with its one signature. Source: secure-systems-lab/dsse envelope.md. */
export interface DsseEnvelope {
  readonly payloadType: string;
  readonly payload: Buffer;
  readonly signature: Buffer;
}

/** What a bundle says about who signed: claims until they are verified. */
export type BundleMaterial = { readonly kind: "public-key"; readonly hint: string } | { readonly kind: "certificate" };

/** A bundle as far as a key verifies it; certificates, logs and timestamps are read by the Sigstore libraries from `document`. */
export interface Bundle {
  readonly envelope: DsseEnvelope;
  readonly material: BundleMaterial;
  readonly logEntries: number;
  readonly timestamps: number;
  readonly document: JsonObject;
}

/** What is signed: `DSSEv1 SP len(type) SP type SP len(body) SP body`. Source: DSSE v1 protocol.md. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(payloadType)} ${payloadType} ${payload.length} `;
  return Buffer.concat([Buffer.from(head, "utf8"), payload]);
}

/** How a bundle names the key that signed. Only a hint: verifiers try the keys that they trust. */
export function keyHintOf({ key }: PublicKey): string {
  return createHash("sha256").update(spkiOf(key)).digest("base64");
}

export function envelopeJson({ payload, payloadType, signature }: DsseEnvelope): JsonObject {
  return { payload: payload.toString("base64"), payloadType, signatures: [{ sig: signature.toString("base64") }] };
}

/**
 * Reads a bundle of version 0.3 or newer that holds a DSSE envelope with exactly one signature over an in-toto
 * statement. Throws `ERR_SIGNATURE_MALFORMED`, `ERR_JSON_MALFORMED` or `ERR_ENCODING_MALFORMED`.
 */
export function parseBundle(bytes: Uint8Array): Bundle {
  const document = anObject(parseJson(bytes, { maxBytes: signatureLimits.maxBundleBytes, subject: "bundle" }), "bundle");
  checkVersion(aText(document["mediaType"], "mediaType"));
  const material = anObject(document["verificationMaterial"], "verificationMaterial");
  if (document["dsseEnvelope"] === undefined) throw malformedSignature("bundle holds no DSSE envelope");
  if (document["messageSignature"] !== undefined) throw malformedSignature("bundle holds a message signature beside its envelope");
  return {
    envelope: parseEnvelope(document["dsseEnvelope"]),
    material: parseMaterial(material),
    logEntries: lengthOf(material["tlogEntries"], "tlogEntries"),
    timestamps: timestampsIn(material["timestampVerificationData"]),
    document,
  };
}

export function parseEnvelope(value: unknown): DsseEnvelope {
  const envelope = anObject(value, "dsseEnvelope");
  const signatures = aList(envelope["signatures"], "dsseEnvelope.signatures");
  if (signatures.length !== 1) throw malformedSignature(`envelope has ${signatures.length} signatures (expected exactly one)`);
  return {
    payloadType: exactText(envelope["payloadType"], "payloadType", signatureTypes.inToto),
    payload: decodeBase64(aText(envelope["payload"], "payload"), "envelope payload"),
    signature: decodeBase64(aText(anObject(signatures[0], "signatures[0]")["sig"], "sig"), "envelope signature"),
  };
}

function checkVersion(mediaType: string): void {
  const match = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v0\.([0-9]{1,3})\+json|\+json;version=0\.([0-9]{1,3}))$/.exec(mediaType);
  const minor = Number(match?.[1] ?? match?.[2] ?? "-1");
  if (minor !== 3) throw malformedSignature(`bundle has media type ${JSON.stringify(mediaType.slice(0, 120))} (expected version 0.3)`);
}

function parseMaterial(material: JsonObject): BundleMaterial {
  const kinds = ["publicKey", "certificate", "x509CertificateChain"].filter((name) => material[name] !== undefined);
  if (kinds.length !== 1) throw malformedSignature(`bundle has ${kinds.length} kinds of verification material (expected one)`);
  if (material["x509CertificateChain"] !== undefined)
    throw malformedSignature("bundle holds a certificate chain, which version 0.3 forbids");
  if (material["certificate"] !== undefined) return { kind: "certificate" };
  const hint = anObject(material["publicKey"], "publicKey")["hint"];
  return { kind: "public-key", hint: hint === undefined ? "" : aText(hint, "publicKey.hint") };
}

function lengthOf(value: unknown, where: string): number {
  return value === undefined || value === null ? 0 : aList(value, where).length;
}

function timestampsIn(value: unknown): number {
  if (value === undefined || value === null) return 0;
  return lengthOf(anObject(value, "timestampVerificationData")["rfc3161Timestamps"], "rfc3161Timestamps");
}
