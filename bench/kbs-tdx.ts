import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  hardwareVerifier,
  offlineCollateral,
  parseBundle,
  formatBundle,
  importCollateral,
  parseTrustRoots,
} from "../src/attestation/index.ts";
import { dcapPki, intelCollateral, makeQuote, now, qeIdentityJson, tcbInfoJson } from "../test/attestation/generator/dcap.ts";
import { pem } from "../test/attestation/generator/pki.ts";

/** When the generated collateral is current: the clock of a service that judges it. */
export const tdxClock = now;

/** Quotes of a platform that exists nowhere, and what a service needs to judge them, left in a folder. */
export function generatedTdx(folder: string): (reportData: Buffer) => string {
  const pki = dcapPki();
  const intel = intelCollateral(pki);
  const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString("hex");
  const chain = pem(pki.signer.der, pki.root.der);
  const collateral = {
    pck_crl_issuer_chain: pem(pki.intermediate.der, pki.root.der),
    root_ca_crl: hex(intel.rootCaCrl),
    pck_crl: hex(intel.pckCrl),
    tcb_info_issuer_chain: chain,
    tcb_info: tcbInfoJson(),
    tcb_info_signature: hex(intel.tcbInfo?.signature),
    qe_identity_issuer_chain: chain,
    qe_identity: qeIdentityJson(),
    qe_identity_signature: hex(intel.qeIdentity?.signature),
  };
  writeFileSync(join(folder, "collateral.json"), formatBundle(importCollateral(Buffer.from(JSON.stringify(collateral)), { now })));
  writeFileSync(join(folder, "root.der"), pki.root.der);
  return (reportData) => makeQuote(pki, { reportData }).toString("base64");
}

/** The verifier for them. */
export function tdxVerifier(folder: string): ReturnType<typeof hardwareVerifier> {
  return hardwareVerifier({
    collateral: offlineCollateral(parseBundle(readFileSync(join(folder, "collateral.json")))),
    roots: parseTrustRoots([readFileSync(join(folder, "root.der"))]),
  });
}
