import { verify, type KeyObject } from "node:crypto";
import { derOfP256Signature } from "../../bytes/index.ts";
import { checkCurrent, parseRevocationList, type RevocationList } from "../der/crl.ts";
import { extensionOids, keyUsageBits } from "../der/extensions.ts";
import { malformed } from "../der/reader.ts";
import { parsePemChain } from "../der/pem.ts";
import { checkSignature, ecdsaP256Sha256 } from "../der/signatures.ts";
import { checkValidity, parseCertificate, type Certificate } from "../der/x509.ts";
import { refuse, type FindingSink } from "../refuse.ts";
import type { TrustRoots } from "../trust-roots.ts";
import { ChainMemory } from "./chain-memory.ts";
import type { VerifiedPck } from "./pck.ts";
import { parseQeIdentity, type QeIdentity } from "./qe-identity.ts";
import { parseTcbInfo, type TcbInfo } from "./tcb-info.ts";

/** A JSON value as Intel signed it: the exact bytes of the `tcbInfo` or `enclaveIdentity` value, never re-serialised. */
export interface SignedJson {
  readonly bytes: Uint8Array;
  /** r‖s, 64 bytes. */
  readonly signature: Uint8Array;
  /** PEM, signer first. */
  readonly issuerChain: Uint8Array | string;
}

/** Everything besides the quote that DCAP verification needs, raw. A missing part is a finding, not a permission. */
export interface IntelCollateral {
  readonly rootCaCrl?: Uint8Array | undefined;
  /** The list of the CA (Platform or Processor) that issued the PCK. */
  readonly pckCrl?: Uint8Array | undefined;
  readonly tcbInfo?: SignedJson | undefined;
  readonly qeIdentity?: SignedJson | undefined;
  /** The PCK chain (PEM, leaf first), for quotes that do not carry it. */
  readonly pckChain?: Uint8Array | string | undefined;
}

/** Collateral whose signatures, chains and windows hold at one moment. Only {@link verifyIntelCollateral} makes one. */
export interface VerifiedIntelCollateral {
  /** Milliseconds since the epoch; a quote is verified at the same moment. */
  readonly at: number;
  readonly root: Certificate;
  readonly rootCrl: RevocationList;
  /** Parsed and current; its signature is checked against the quote's own chain. */
  readonly pckCrl: RevocationList;
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly pckChain: Uint8Array | string | undefined;
  /** The earliest moment at which any part ceases to be current. */
  readonly expiresAt: number;
  /** The latest moment at which any part, a signer's certificate included, begins to be valid. */
  readonly validFrom: number;
  /** The earliest end of a signer's certificate or the root's. */
  readonly certificatesExpireAt: number;
  readonly earliestIssueDate: number;
  readonly latestIssueDate: number;
  readonly roots: TrustRoots;
  /** PCK chains that have been verified with this collateral: hosts send the same one with every quote. */
  readonly verifiedChains: ChainMemory<VerifiedPck>;
  /** Attestation keys of quotes that held, by their bytes in hex: a quoting enclave signs with the same one until it restarts. */
  readonly attestationKeys: Map<string, KeyObject>;
}

/** Chains that one collateral remembers: a fleet of one family has a few dozen hosts. */
const maxChains = 256;

const tcbSigningName = "Intel SGX TCB Signing";

/** What is needed from the caller to verify collateral. */
export interface CollateralContext {
  readonly roots: TrustRoots;
  readonly at: Date;
}

/**
 * Verifies collateral in the order of Intel's library: root list, TCB info with its signer, QE identity with its signer,
 * PCK list. Every reason lands in the sink; the value is `undefined` when any refuses. Reference C 2.1 steps 2 to 9.
 */
export function verifyIntelCollateral(
  raw: IntelCollateral,
  context: CollateralContext,
  sink: FindingSink,
): VerifiedIntelCollateral | undefined {
  const at = context.at.getTime();
  const chains = { tcbInfo: raw.tcbInfo?.issuerChain, qeIdentity: raw.qeIdentity?.issuerChain };
  const root = sink.attempt(() => findRoot([chains.tcbInfo, chains.qeIdentity], context.roots, at));
  const rootCrl = sink.attempt(() => {
    const list = parseRevocationList(
      present(raw.rootCaCrl, "CRL_MISSING", "collateral.rootCaCrl", "the root's revocation list"),
      "collateral.rootCaCrl",
    );
    if (root !== undefined) checkListOf(list, root);
    checkCurrent(list, at);
    return list;
  });
  const certificates: Certificate[] = root === undefined ? [] : [root];
  const signers = root === undefined || rootCrl === undefined ? undefined : { root, rootCrl };
  const tcbInfo = sink.attempt(() => {
    const part = present(raw.tcbInfo, "TCB_INFO_MISSING", "collateral.tcbInfo", "the TCB info");
    const info = parseTcbInfo(part.bytes, "collateral.tcbInfo");
    certificates.push(...checkSigned(part, "collateral.tcbInfo", signers, context.roots, at));
    checkWindow(info, "collateral.tcbInfo", "TCB info", { future: "TCB_INFO_FROM_THE_FUTURE", past: "TCB_INFO_EXPIRED" }, at);
    return info;
  });
  const qeIdentity = sink.attempt(() => {
    const part = present(raw.qeIdentity, "QE_IDENTITY_MISSING", "collateral.qeIdentity", "the QE identity");
    const identity = parseQeIdentity(part.bytes, "collateral.qeIdentity");
    certificates.push(...checkSigned(part, "collateral.qeIdentity", signers, context.roots, at));
    checkWindow(
      identity,
      "collateral.qeIdentity",
      "QE identity",
      { future: "QE_IDENTITY_FROM_THE_FUTURE", past: "QE_IDENTITY_EXPIRED" },
      at,
    );
    return identity;
  });
  const pckCrl = sink.attempt(() => {
    const list = parseRevocationList(
      present(raw.pckCrl, "CRL_MISSING", "collateral.pckCrl", "the PCK revocation list"),
      "collateral.pckCrl",
    );
    checkCurrent(list, at);
    return list;
  });
  if (root === undefined || rootCrl === undefined || tcbInfo === undefined || qeIdentity === undefined || pckCrl === undefined)
    return undefined;
  const issued = [tcbInfo.issueDate, qeIdentity.issueDate, rootCrl.thisUpdate, pckCrl.thisUpdate];
  return {
    at,
    root,
    rootCrl,
    pckCrl,
    tcbInfo,
    qeIdentity,
    pckChain: raw.pckChain,
    expiresAt: Math.min(tcbInfo.nextUpdate, qeIdentity.nextUpdate, rootCrl.nextUpdate, pckCrl.nextUpdate),
    validFrom: Math.max(...issued, ...certificates.map(({ notBefore }) => notBefore)),
    certificatesExpireAt: Math.min(...certificates.map(({ notAfter }) => notAfter)),
    earliestIssueDate: Math.min(...issued),
    latestIssueDate: Math.max(...issued),
    roots: context.roots,
    verifiedChains: new ChainMemory(maxChains),
    attestationKeys: new Map(),
  };
}

function present<Value>(
  value: Value | undefined,
  code: "CRL_MISSING" | "TCB_INFO_MISSING" | "QE_IDENTITY_MISSING",
  path: string,
  what: string,
): Value {
  if (value === undefined) {
    throw refuse(code, {
      path,
      message: `${what} is missing, so nothing says that the platform is still trusted`,
      hint: "add it: ociseal attest collateral fetch",
    });
  }
  return value;
}

/** The root is whichever certificate at the end of a chain has a pinned hash; its bytes are what we compare, not its name. */
function findRoot(chains: readonly (Uint8Array | string | undefined)[], roots: TrustRoots, at: number): Certificate {
  const seen: string[] = [];
  for (const chain of chains) {
    if (chain === undefined || chain.length === 0) continue;
    const last = parsePemChain(chain, "collateral.issuerChain").at(-1);
    if (last === undefined) continue;
    const certificate = parseCertificate(last, "collateral.issuerChain");
    if (roots.intel.has(certificate.fingerprint)) {
      checkValidity(certificate, at);
      return certificate;
    }
    seen.push(certificate.fingerprint);
  }
  throw unknownRoot("collateral.issuerChain", roots, seen);
}

export function unknownRoot(path: string, roots: TrustRoots, seen: readonly string[]) {
  return refuse("TRUST_ROOT_UNKNOWN", {
    path,
    message: roots.source === "built-in" ? "the chain does not end at Intel's root" : "the chain does not end at a supplied root",
    expected: [...roots.intel].join(", ") || "a root for Intel's PKI",
    actual: seen.join(", ") || "no certificate",
    hint: roots.source === "built-in" ? "for a private PKI give its root with --trust-root" : undefined,
  });
}

/** The list is the issuer's: same Name bytes, allowed to sign lists, signature good. */
export function checkListOf(list: RevocationList, issuer: Certificate): void {
  if (!list.issuer.equals(issuer.subject)) {
    throw refuse("CRL_WRONG_ISSUER", {
      path: list.path,
      message: "the revocation list is not the issuer's",
      expected: issuer.subjectCommonName,
      actual: list.issuerCommonName,
    });
  }
  if (issuer.keyUsage?.has(keyUsageBits.crlSign) !== true) {
    throw refuse("CERTIFICATE_ROLE_WRONG", { path: issuer.path, message: `${issuer.subjectCommonName} may not sign revocation lists` });
  }
  for (const [name, oid] of [
    ["a number", extensionOids.crlNumber],
    ["its issuer's key identifier", extensionOids.authorityKeyIdentifier],
  ] as const) {
    if (!list.extensions.has(oid)) throw malformed(list.path, `the revocation list lacks ${name}`);
  }
  checkSignature(list, ecdsaP256Sha256, { publicKey: issuer.publicKey, name: issuer.subjectCommonName });
}

/** The signer's certificate, when it can be judged at all. */
function checkSigned(
  part: SignedJson,
  path: string,
  signers: { readonly root: Certificate; readonly rootCrl: RevocationList } | undefined,
  roots: TrustRoots,
  at: number,
): readonly Certificate[] {
  if (part.signature.length === 0) throw refuse("COLLATERAL_UNSIGNED", { path, message: "the collateral carries no signature" });
  if (part.signature.length !== 64) throw refuse("SIGNATURE_INVALID", { path, message: "the signature does not have 64 bytes" });
  // Without a root the chain cannot be judged; that is a finding already.
  if (signers === undefined) return [];
  const chain = parsePemChain(part.issuerChain, `${path}.issuerChain`);
  if (chain.length !== 2)
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", {
      path: `${path}.issuerChain`,
      message: `the issuer chain has ${chain.length} certificates, not signer and root`,
    });
  const [signer, root] = chain.map((der) => parseCertificate(der, `${path}.issuerChain`));
  if (signer === undefined || root === undefined || root.fingerprint !== signers.root.fingerprint) {
    throw unknownRoot(`${path}.issuerChain`, roots, root === undefined ? [] : [root.fingerprint]);
  }
  checkSigner(signer, signers, at);
  if (!verify("sha256", part.bytes, signer.publicKey, derOfP256Signature(part.signature))) {
    throw refuse("SIGNATURE_INVALID", {
      path,
      message: `the signature is not by ${signer.subjectCommonName} over exactly these bytes`,
      hint: "the JSON must be kept byte for byte as it was served",
    });
  }
  return [signer];
}

/** The role matters: any other certificate of the PKI, above all a PCK that a platform owner holds, must not vouch for TCBs. */
function checkSigner(signer: Certificate, signers: { readonly root: Certificate; readonly rootCrl: RevocationList }, at: number): void {
  const { path } = signer;
  if (signer.subjectCommonName !== tcbSigningName || signer.isCa || signer.keyUsage?.has(keyUsageBits.digitalSignature) !== true) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: "the signer of the collateral is not a TCB signing certificate",
      expected: tcbSigningName,
      actual: signer.subjectCommonName,
    });
  }
  if (!signer.issuer.equals(signers.root.subject)) {
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", { path, message: "the TCB signing certificate is not issued by the root itself" });
  }
  checkSignature(signer, ecdsaP256Sha256, { publicKey: signers.root.publicKey, name: signers.root.subjectCommonName });
  checkValidity(signer, at);
  if (signers.rootCrl.revoked.has(signer.serial))
    throw refuse("CERTIFICATE_REVOKED", { path, message: "the TCB signing certificate is revoked" });
}

function checkWindow(
  document: { readonly issueDate: number; readonly nextUpdate: number },
  path: string,
  what: string,
  codes: {
    readonly future: "TCB_INFO_FROM_THE_FUTURE" | "QE_IDENTITY_FROM_THE_FUTURE";
    readonly past: "TCB_INFO_EXPIRED" | "QE_IDENTITY_EXPIRED";
  },
  at: number,
): void {
  const actual = new Date(at).toISOString();
  if (at < document.issueDate) {
    throw refuse(codes.future, {
      path,
      message: `the ${what} was issued after the time of verification`,
      expected: `a time from ${new Date(document.issueDate).toISOString()}`,
      actual,
    });
  }
  if (at > document.nextUpdate) {
    throw refuse(codes.past, {
      path,
      message: `the ${what} has expired`,
      expected: `a time until ${new Date(document.nextUpdate).toISOString()}`,
      actual,
      hint: "fetch current collateral: ociseal attest collateral fetch",
    });
  }
}
