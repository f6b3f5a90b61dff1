import type { KeyObject } from "node:crypto";
import type { TransparencyLogEntry } from "@sigstore/bundle";
import { TrustedRoot as ProtoTrustedRoot } from "@sigstore/protobuf-specs";
import { toTrustMaterial, VerificationError, Verifier, type TrustMaterial } from "@sigstore/verify";
import { describeCause } from "../../errors/index.ts";
import { keyTypeOf, verifyBytes } from "../keys/key-types.ts";
import { spkiOf, type PublicKey } from "../keys/public-key.ts";
import { Rejection, type FailedCheck, type LogEvidence, type Signatory } from "../report.ts";
import type { CertificateAnchors, CertificateAuthorities, CertificateIdentity, LogAnchors } from "./anchors.ts";
import type { Certificate } from "./certificate.ts";
import { checkChain } from "./chain.ts";
import { checkIdentity, identityOf } from "./identity.ts";
import { checkLoggedKey } from "./logged-key.ts";
import { decodeMaterial, type DecodedMaterial, type SignatureMaterial } from "./material.ts";
import { signatureContent, type SignedMessage } from "./signed-content.ts";
import { malformedRoot, type TrustedRoot } from "./trusted-root.ts";

/** The log entries of a signature whose key is trusted already. */
export interface LogCheck {
  readonly signed: SignedMessage;
  readonly material: SignatureMaterial;
  readonly key: PublicKey;
  readonly anchors: LogAnchors;
}

/** Checks that every log entry is the log's own and is of this signature by this key, and that there is one. Throws {@link Rejection}. */
export function verifyLogEntries({ signed, material, key, anchors }: LogCheck): LogEvidence {
  const decoded = onlyLog(decodeMaterial(material));
  return verifyEntries(signed, decoded, key.key, logMaterial(anchors, decoded));
}

/** A signature that a certificate vouches for. */
export interface CertificateCheck {
  readonly signed: SignedMessage;
  readonly material: SignatureMaterial;
  readonly anchors: CertificateAnchors;
  /** The log that must have seen it; `undefined` where only a timestamp authority's time is asked for, or none. */
  readonly log: { readonly rule: "required"; readonly anchors: LogAnchors } | { readonly rule: "if-present" | "ignore" };
  readonly identity: CertificateIdentity;
  /** Only a plain authority (`pki`) judges by the present time. */
  readonly now: Date;
}

export interface VerifiedCertificate {
  readonly signatory: Signatory;
  readonly evidence: LogEvidence;
}

/**
 * Checks certificate, certificate log, time, transparency log, signature and identity, in this order.
 * Throws {@link Rejection}, naming the check.
 */
export async function verifyByCertificate(check: CertificateCheck): Promise<VerifiedCertificate> {
  const decoded = decodeMaterial(check.material);
  const { certificate } = decoded;
  if (certificate === undefined) throw new Rejection("certificate", "it comes without certificate, and an identity is required");
  const { key } = certificate;
  const evidence =
    check.anchors.kind === "trusted-root"
      ? verifyByRoot(check, decoded, certificate, check.anchors)
      : verifyByAuthorities(check, decoded, certificate, check.anchors.authorities);
  const { message, signature } = check.signed;
  if (!(await verifyBytes(message, key, keyTypeOf(key, "the certificate's key"), signature))) {
    throw new Rejection("key", "it was not made by the key of its certificate");
  }
  const identity = identityOf(certificate);
  checkIdentity(check.identity, identity, certificate);
  return { signatory: { kind: "certificate", subject: identity.subjects.join(", "), issuer: identity.issuer ?? "" }, evidence };
}

type RootAnchors = Extract<CertificateAnchors, { readonly kind: "trusted-root" }>;

function verifyByRoot(check: CertificateCheck, decoded: DecodedMaterial, certificate: Certificate, anchors: RootAnchors): LogEvidence {
  const logEntries = check.log.rule === "ignore" ? [] : decoded.logEntries;
  if (check.log.rule === "required" && logEntries.length === 0)
    throw new Rejection("log", "no transparency log entry comes with it, and one is required");
  for (const entry of logEntries) checkLoggedKey(entry, spkiOf(certificate.key));
  const verifier = new Verifier(rootMaterial(anchors.root), {
    tlogThreshold: check.log.rule === "required" ? 1 : 0,
    ctlogThreshold: anchors.certificateLog === "required" ? 1 : 0,
    // Never 0: without any time the library has nothing to check the certificate's validity against.
    timestampThreshold: 1,
  });
  guarded(() =>
    verifier.verify({
      signature: signatureContent(check.signed, () => undefined),
      key: { $case: "certificate", certificate: certificate.sigstore },
      tlogEntries: [...logEntries],
      timestamps: timestampsOf({ ...decoded, logEntries }),
    }),
  );
  return evidenceOf({ ...decoded, logEntries });
}

function verifyByAuthorities(
  check: CertificateCheck,
  decoded: DecodedMaterial,
  certificate: Certificate,
  authorities: CertificateAuthorities,
): LogEvidence {
  if (check.log.rule !== "required") {
    checkChain(certificate, decoded.chainPem, authorities, check.now);
    return { log: "not-required", times: [] };
  }
  const evidence = verifyEntries(check.signed, onlyLog(decoded), certificate.key, logMaterial(check.log.anchors, decoded));
  // The promise dates the signature; a certificate of ten minutes is judged at that time.
  for (const time of promisedTimes(decoded.logEntries)) checkChain(certificate, decoded.chainPem, authorities, time);
  return evidence;
}

/** Without timestamps: a key needs no time, and a containers-policy.json knows no timestamp authority. */
function onlyLog(decoded: DecodedMaterial): DecodedMaterial {
  return { ...decoded, timestamps: [] };
}

function verifyEntries(signed: SignedMessage, decoded: DecodedMaterial, key: KeyObject, trust: TrustMaterial): LogEvidence {
  for (const entry of decoded.logEntries) checkLoggedKey(entry, spkiOf(key));
  const verifier = new Verifier(
    { ...trust, publicKey: () => ({ publicKey: key, validFor: () => true }) },
    { tlogThreshold: 1, ctlogThreshold: 0, timestampThreshold: 0 },
  );
  const { logEntries } = decoded;
  guarded(() =>
    verifier.verify({
      signature: signatureContent(signed, () => undefined),
      key: { $case: "public-key", hint: "" },
      tlogEntries: [...logEntries],
      timestamps: timestampsOf(decoded),
    }),
  );
  return evidenceOf(decoded);
}

function timestampsOf({ logEntries, timestamps }: DecodedMaterial): Parameters<Verifier["verify"]>[0]["timestamps"] {
  return [
    ...logEntries.filter(hasTime).map((tlogEntry) => ({ $case: "transparency-log" as const, tlogEntry })),
    ...timestamps.map((timestamp) => ({ $case: "timestamp-authority" as const, timestamp })),
  ];
}

/** An integrated time counts only with the log's promise, which signs it. */
function hasTime({ integratedTime, inclusionPromise }: TransparencyLogEntry): boolean {
  return inclusionPromise !== undefined && integratedTime !== "0" && integratedTime !== "";
}

function promisedTimes(entries: readonly TransparencyLogEntry[]): readonly Date[] {
  const times = entries.filter(hasTime).map(({ integratedTime }) => new Date(Number(integratedTime) * 1000));
  if (times.length === 0) throw new Rejection("log", "its log entry carries no promise of the log, and the policy requires one");
  return times;
}

function evidenceOf({ logEntries, timestamps }: DecodedMaterial): LogEvidence {
  const logged = logEntries.filter(hasTime).map(({ integratedTime }) => new Date(Number(integratedTime) * 1000).toISOString());
  return {
    log: logEntries.length > 0 ? "verified" : "not-required",
    times: [...logged, ...timestamps.map(({ signingTime }) => signingTime.toISOString())],
  };
}

function logMaterial(anchors: LogAnchors, { logEntries }: DecodedMaterial): TrustMaterial {
  switch (anchors.kind) {
    case "trusted-root":
      return rootMaterial(anchors.root);
    case "rekor-keys":
      promisedTimes(logEntries);
      return {
        ...emptyMaterial,
        tlogs: anchors.keys.map(({ key, fingerprint }) => ({
          logID: Buffer.from(fingerprint, "hex"),
          baseURL: "",
          publicKey: key,
          validFor: { start: new Date(0), end: new Date(8.64e15) },
        })),
      };
  }
}

const emptyMaterial: TrustMaterial = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
  publicKey: () => {
    throw new VerificationError({ code: "PUBLIC_KEY_ERROR", message: "no key is trusted" });
  },
};

function rootMaterial({ document, source }: TrustedRoot): TrustMaterial {
  try {
    return toTrustMaterial(ProtoTrustedRoot.fromJSON(document), emptyMaterial.publicKey);
  } catch (cause) {
    throw malformedRoot(source, describeCause(cause), cause);
  }
}

/** The library's codes by the check that a user knows. */
const checks: Readonly<Record<string, FailedCheck>> = {
  NOT_IMPLEMENTED_ERROR: "log",
  TLOG_INCLUSION_PROOF_ERROR: "log",
  TLOG_INCLUSION_PROMISE_ERROR: "log",
  TLOG_MISSING_INCLUSION_ERROR: "log",
  TLOG_BODY_ERROR: "log",
  TLOG_ERROR: "log",
  CERTIFICATE_ERROR: "certificate",
  PUBLIC_KEY_ERROR: "key",
  TIMESTAMP_ERROR: "timestamp",
  SIGNATURE_ERROR: "key",
};

function guarded(verify: () => unknown): void {
  try {
    verify();
  } catch (cause) {
    if (cause instanceof VerificationError) throw new Rejection(checks[cause.code] ?? "certificate", cause.message, cause);
    // Its parsers are lazy, so foreign bytes can fail in any place with any error: never a defect of the caller.
    throw new Rejection("certificate", `its certificate, log entry or timestamp is malformed: ${describeCause(cause)}`, cause);
  }
}
