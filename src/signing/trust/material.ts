import { RFC3161Timestamp } from "@sigstore/core";
import { bundleFromJSON, type TransparencyLogEntry } from "@sigstore/bundle";
import { decodeBase64, decodeHex, parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import type { Annotations } from "../../oci/index.ts";
import type { Bundle } from "../bundle.ts";
import { legacyAnnotations } from "../formats.ts";
import { Rejection, type FailedCheck } from "../report.ts";
import { aText, anObject, exactObject, malformedSignature } from "../shape.ts";
import { parseCertificate, type Certificate } from "./certificate.ts";
import { certificatesOf } from "./pem.ts";

/** What came with a signature besides its bytes. */
export type SignatureMaterial =
  | { readonly kind: "legacy"; readonly annotations: Annotations }
  | { readonly kind: "bundle"; readonly bundle: Bundle };

/** The same in the types of the Sigstore libraries; nothing of it is verified. */
export interface DecodedMaterial {
  readonly certificate: Certificate | undefined;
  /** Certificates that the signer sent along, PEM; only the legacy format has them. */
  readonly chainPem: string;
  readonly logEntries: readonly TransparencyLogEntry[];
  readonly timestamps: readonly RFC3161Timestamp[];
}

const maxEntries = 32;
const maxAnnotationBytes = 256 * 1024;

/** Decodes certificates, log entries and timestamps. Throws {@link Rejection} when they are malformed. */
export function decodeMaterial(material: SignatureMaterial): DecodedMaterial {
  switch (material.kind) {
    case "legacy":
      return decodeLegacy(material.annotations);
    case "bundle":
      return decodeBundle(material.bundle);
  }
}

function decodeBundle(bundle: Bundle): DecodedMaterial {
  const { verificationMaterial } = guarded("unreadable", "bundle", () => bundleFromJSON(bundle.document));
  const { content, tlogEntries, timestampVerificationData } = verificationMaterial;
  const stamps = timestampVerificationData?.rfc3161Timestamps ?? [];
  if (tlogEntries.length > maxEntries || stamps.length > maxEntries)
    throw new Rejection("limit", `it has more than ${maxEntries} log entries or timestamps`);
  const raw = content.$case === "certificate" ? content.certificate.rawBytes : undefined;
  return {
    certificate: raw === undefined ? undefined : guarded("certificate", "certificate", () => parseCertificate(Buffer.from(raw))),
    chainPem: "",
    logEntries: tlogEntries,
    timestamps: stamps.map(({ signedTimestamp }) => parseTimestamp(signedTimestamp)),
  };
}

function decodeLegacy(annotations: Annotations): DecodedMaterial {
  const pem = textOf(annotations, legacyAnnotations.certificate);
  const entry = textOf(annotations, legacyAnnotations.bundle);
  const timestamp = textOf(annotations, legacyAnnotations.timestamp);
  return {
    certificate: pem === undefined ? undefined : guarded("certificate", "certificate", () => parseCertificate(onlyCertificate(pem))),
    chainPem: textOf(annotations, legacyAnnotations.chain) ?? "",
    logEntries: entry === undefined ? [] : [guarded("log", "log entry", () => parsePromise(entry))],
    timestamps: timestamp === undefined ? [] : [guarded("timestamp", "timestamp", () => parseTimestampAnnotation(timestamp))],
  };
}

function textOf(annotations: Annotations, key: string): string | undefined {
  const text = annotations[key];
  if (text === undefined || text === "") return undefined;
  if (text.length > maxAnnotationBytes)
    throw new Rejection("limit", `its annotation ${key} is longer than ${maxAnnotationBytes} characters`);
  return text;
}

function onlyCertificate(pem: string): Buffer {
  const [certificate, ...more] = certificatesOf(pem);
  if (certificate === undefined || more.length > 0) throw malformedSignature("expected exactly one PEM certificate");
  return certificate;
}

/**
 * The log's promise as cosign writes it: `{SignedEntryTimestamp, Payload: {body, integratedTime, logIndex, logID}}`,
 * members exactly, as skopeo reads it.
 */
function parsePromise(text: string): TransparencyLogEntry {
  const top = exactObject(parseJson(text, { maxBytes: maxAnnotationBytes, subject: "log entry" }), "log entry", [
    "SignedEntryTimestamp",
    "Payload",
  ]);
  const payload = exactObject(top["Payload"], "Payload", ["body", "integratedTime", "logIndex", "logID"]);
  const { integratedTime, logIndex } = payload;
  if (!isIndex(integratedTime) || !isIndex(logIndex)) throw malformedSignature("integratedTime or logIndex is not a number");
  const body = decodeBase64(aText(payload["body"], "body"), "log entry body");
  const { kind, apiVersion } = anObject(parseJson(body, { maxBytes: maxAnnotationBytes, subject: "log entry body" }), "body");
  return {
    logIndex: String(logIndex),
    logId: { keyId: decodeHex(aText(payload["logID"], "logID"), "logID") },
    kindVersion: { kind: aText(kind, "kind"), version: aText(apiVersion, "apiVersion") },
    integratedTime: String(integratedTime),
    inclusionPromise: {
      signedEntryTimestamp: decodeBase64(aText(top["SignedEntryTimestamp"], "SignedEntryTimestamp"), "SignedEntryTimestamp"),
    },
    inclusionProof: undefined,
    canonicalizedBody: body,
  };
}

function isIndex(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function parseTimestampAnnotation(text: string): RFC3161Timestamp {
  const top = exactObject(parseJson(text, { maxBytes: maxAnnotationBytes, subject: "timestamp" }), "timestamp", ["SignedRFC3161Timestamp"]);
  return parseTimestamp(decodeBase64(aText(top["SignedRFC3161Timestamp"], "SignedRFC3161Timestamp"), "timestamp"));
}

/**
 * A timestamp with its time.
 *
 * `@sigstore/core` 4.0.1 reads a time only without fraction or with three digits of it; DER forbids trailing zeros, so an
 * authority that stamps milliseconds is refused about one time in ten. We read the time ourselves.
 */
function parseTimestamp(der: Uint8Array): RFC3161Timestamp {
  return guarded("timestamp", "timestamp", () => {
    const timestamp = RFC3161Timestamp.parse(Buffer.from(der));
    const time = timestamp.tstInfo.root.subs.find(({ tag }) => tag.isUniversal() && tag.number === 0x18);
    const signingTime = parseGeneralizedTime(time?.value.toString("latin1") ?? "");
    return Object.defineProperty(timestamp, "signingTime", { value: signingTime });
  });
}

/** DER GeneralizedTime: seconds always, a fraction without trailing zeros, `Z`. Source: X.690 section 11.7; RFC 3161 section 2.4.2. */
export function parseGeneralizedTime(text: string): Date {
  const match = /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:\.(\d{0,8}[1-9]))?Z$/.exec(text);
  const [, year, month, day, hour, minute, second, fraction = ""] = match ?? [];
  const time = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.slice(0, 3).padEnd(3, "0")}Z`);
  if (match === null || Number.isNaN(time.getTime())) throw malformedSignature("timestamp has a malformed time");
  return time;
}

/** Foreign parsers throw what they like; here it becomes the failed check. */
function guarded<Value>(check: FailedCheck, what: string, read: () => Value): Value {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof Rejection) throw cause;
    throw new Rejection(check, `its ${what} is malformed: ${describeCause(cause)}`, cause);
  }
}
