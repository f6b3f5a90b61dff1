import { X509Certificate } from "node:crypto";
import type { Annotations } from "../oci/index.ts";
import { envelopeJson, keyHintOf, type DsseEnvelope } from "./bundle.ts";
import { legacyAnnotations, signatureTypes } from "./formats.ts";
import type { SignatureEvidence } from "./keyless/make-evidence.ts";
import type { PublicKey } from "./keys/public-key.ts";

/** Annotations of a legacy layer. A Rekor v2 entry carries no promise and has no place there. */
export function legacyEvidence({ signature, certificatePem, logEntry, timestamps }: SignatureEvidence): Annotations {
  const promise = logEntry?.inclusionPromise;
  const [timestamp] = timestamps;
  return {
    [legacyAnnotations.signature]: signature.toString("base64"),
    ...(promise === undefined || logEntry === undefined
      ? {}
      : {
          [legacyAnnotations.bundle]: JSON.stringify({
            SignedEntryTimestamp: promise.signedEntryTimestamp.toString("base64"),
            Payload: {
              body: logEntry.canonicalizedBody.toString("base64"),
              integratedTime: Number(logEntry.integratedTime),
              logIndex: Number(logEntry.logIndex),
              logID: logEntry.logId.keyId.toString("hex"),
            },
          }),
        }),
    ...(certificatePem === undefined ? {} : { [legacyAnnotations.certificate]: certificatePem, [legacyAnnotations.chain]: "" }),
    ...(timestamp === undefined
      ? {}
      : { [legacyAnnotations.timestamp]: JSON.stringify({ SignedRFC3161Timestamp: timestamp.toString("base64") }) }),
  };
}

/** A v0.3 bundle. The DSSE `keyid` stays out: cosign skips a signature whose keyid it did not compute itself (measured with 2.5 and 3.1). */
export function bundleEvidence(
  envelope: DsseEnvelope,
  { certificatePem, logEntry, timestamps }: SignatureEvidence,
  publicKey: PublicKey | undefined,
): Buffer {
  const signer =
    certificatePem === undefined
      ? { publicKey: { hint: publicKey === undefined ? "" : keyHintOf(publicKey) } }
      : { certificate: { rawBytes: new X509Certificate(certificatePem).raw.toString("base64") } };
  const verificationMaterial = {
    ...signer,
    ...(logEntry === undefined ? {} : { tlogEntries: [logEntryJson(logEntry)] }),
    ...(timestamps.length === 0
      ? {}
      : { timestampVerificationData: { rfc3161Timestamps: timestamps.map((bytes) => ({ signedTimestamp: bytes.toString("base64") })) } }),
  };
  return Buffer.from(
    JSON.stringify({ mediaType: signatureTypes.bundle, verificationMaterial, dsseEnvelope: envelopeJson(envelope) }),
    "utf8",
  );
}

/** The JSON form of protobuf-specs' TransparencyLogEntry: 64-bit numbers as text, bytes as base64, what is empty left out. */
function logEntryJson(entry: NonNullable<SignatureEvidence["logEntry"]>): object {
  const { inclusionPromise, inclusionProof } = entry;
  return {
    logIndex: entry.logIndex,
    logId: { keyId: entry.logId.keyId.toString("base64") },
    kindVersion: { kind: entry.kindVersion.kind, version: entry.kindVersion.version },
    ...(entry.integratedTime === "" || entry.integratedTime === "0" ? {} : { integratedTime: entry.integratedTime }),
    ...(inclusionPromise === undefined
      ? {}
      : { inclusionPromise: { signedEntryTimestamp: inclusionPromise.signedEntryTimestamp.toString("base64") } }),
    ...(inclusionProof === undefined
      ? {}
      : {
          inclusionProof: {
            logIndex: inclusionProof.logIndex,
            rootHash: inclusionProof.rootHash.toString("base64"),
            treeSize: inclusionProof.treeSize,
            hashes: inclusionProof.hashes.map((hash) => hash.toString("base64")),
            checkpoint: { envelope: inclusionProof.checkpoint?.envelope ?? "" },
          },
        }),
    canonicalizedBody: entry.canonicalizedBody.toString("base64"),
  };
}
