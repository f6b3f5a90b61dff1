import { describe, expect, it } from "vitest";
import { emptyBundle, parseTrustRoots, verifyEvidence } from "../../src/attestation/index.ts";
import { ChainMemory } from "../../src/attestation/intel/chain-memory.ts";
import type { IntelCollateral } from "../../src/attestation/intel/collateral.ts";
import { IntelMemory } from "../../src/attestation/intel/memory.ts";
import { parseQuote } from "../../src/attestation/intel/quote.ts";
import { dcapPki, intelCollateral, makeQuote, now, serials, type DcapPki } from "./generator/dcap.ts";
import { revocationList } from "./generator/pki.ts";

const unchecked = { kind: "unchecked", reason: "a test" } as const;
const day = 24 * 3600 * 1000;

/** A verifier of one platform that remembers, and the codes of what it refuses. */
function verifierOf(pki: DcapPki) {
  const memory = new IntelMemory();
  const roots = parseTrustRoots([pki.root.der]);
  const quote = makeQuote(pki);
  return (intel: IntelCollateral, at: Date = now, evidence: Buffer = quote) => {
    const request = { evidence, intel, roots, at, reportData: unchecked, initData: unchecked };
    const remembered = verifyEvidence({ ...request, memory });
    const forgetful = verifyEvidence(request);
    expect(remembered.findings).toEqual(forgetful.findings);
    expect(remembered.verdict).toBe(forgetful.verdict);
    expect(claimsOf(remembered)).toEqual(claimsOf(forgetful));
    return remembered.verdict === "accept"
      ? "accept"
      : remembered.findings.map(({ code }) => code).filter((code) => !code.endsWith("UNCHECKED"));
  };
}

function claimsOf(result: ReturnType<typeof verifyEvidence>): unknown {
  return result.verdict === "accept" ? result.claims : result.unverifiedClaims;
}

describe("a verifier that remembers Intel's collateral", () => {
  it("finds the same as one that does not, the first time and every other", () => {
    const pki = dcapPki();
    const verify = verifierOf(pki);
    const intel = intelCollateral(pki);
    for (let i = 0; i < 3; i += 1) expect(verify(intel)).toBe("accept");
    const forged = makeQuote(pki);
    forged[100] = (forged[100] ?? 0) ^ 1;
    expect(verify(intel, now, forged)).toContain("QUOTE_SIGNATURE_INVALID");
    expect(verify(intel)).toBe("accept");
  });

  it("looks at every window again at every use", () => {
    const pki = dcapPki();
    const verify = verifierOf(pki);
    const intel = intelCollateral(pki);
    expect(verify(intel)).toBe("accept");
    expect(verify(intel, new Date(now.getTime() + day))).toBe("accept");
    expect(verify(intel, new Date("2027-06-15T00:00:00Z"))).toBe("accept");
    expect(verify(intel, new Date("2027-06-15T00:00:01Z"))).toEqual(["CRL_EXPIRED"]);
    expect(verify(intel, new Date("2027-06-20T00:00:00Z"))).toContain("TCB_INFO_EXPIRED");
    expect(verify(intel, new Date("2027-05-19T23:59:59Z"))).toContain("TCB_INFO_FROM_THE_FUTURE");
    expect(verify(intel)).toBe("accept");
  });

  it.each([
    ["the signer's", { signer: { notAfter: new Date(now.getTime() + day) } }],
    ["the intermediate's", { intermediate: { notAfter: new Date(now.getTime() + day) } }],
    ["the platform's", { pck: { notAfter: new Date(now.getTime() + day) } }],
  ])("refuses when %s certificate has expired since", (_whose, options) => {
    const pki = dcapPki(options);
    const verify = verifierOf(pki);
    const intel = intelCollateral(pki);
    expect(verify(intel)).toBe("accept");
    expect(verify(intel, new Date(now.getTime() + day + 1000))).toContain("CERTIFICATE_EXPIRED");
    expect(verify(intel)).toBe("accept");
  });

  it("takes no other bytes for those that it knows", () => {
    const pki = dcapPki();
    const verify = verifierOf(pki);
    const good = intelCollateral(pki);
    expect(verify(good)).toBe("accept");
    const { tcbInfo } = good;
    if (tcbInfo === undefined) throw new Error("no TCB info");
    const flipped = Buffer.from(tcbInfo.signature);
    flipped[40] = (flipped[40] ?? 0) ^ 1;
    expect(verify({ ...good, tcbInfo: { ...tcbInfo, signature: flipped } })).toContain("SIGNATURE_INVALID");
    expect(verify({ ...good, pckCrl: undefined })).toContain("CRL_MISSING");
    const revoking = revocationList({ issuer: pki.intermediate, revoked: [serials.pck] });
    expect(verify({ ...good, pckCrl: revoking })).toEqual(["PCK_REVOKED"]);
    expect(verify({ ...good })).toBe("accept");
  });

  it("does not carry trust from one set of roots to another", () => {
    const pki = dcapPki();
    const memory = new IntelMemory();
    const common = { evidence: makeQuote(pki), intel: intelCollateral(pki), at: now, reportData: unchecked, initData: unchecked, memory };
    expect(verifyEvidence({ ...common, roots: parseTrustRoots([pki.root.der]) }).verdict).toBe("accept");
    expect(verifyEvidence(common).findings.map(({ code }) => code)).toContain("TRUST_ROOT_UNKNOWN");
  });

  it("selects anew from another bundle", () => {
    const memory = new IntelMemory();
    const quote = parseQuote(makeQuote(dcapPki()));
    const empty = emptyBundle(now.toISOString());
    expect(memory.select(empty, quote, undefined)).toBe(memory.select(empty, quote, undefined));
    expect(memory.select(empty, quote, undefined)).not.toBe(memory.select(emptyBundle(now.toISOString()), quote, undefined));
  });

  it("remembers a chain for its very bytes, not for those by which it is found", () => {
    const memory = new ChainMemory<string>(2);
    const chain = (body: string) => Buffer.from(`-----BEGIN CERTIFICATE-----\n${body}${"A".repeat(80)}\n-----END CERTIFICATE-----\n`);
    const bytes = chain("one");
    memory.set(bytes, "one");
    bytes.fill(0);
    expect(memory.get(chain("one"))).toBe("one");
    for (const other of [chain("two"), Buffer.concat([chain("one"), Buffer.of(0)]), Buffer.alloc(0), bytes]) {
      expect(memory.get(other)).toBeUndefined();
    }
    memory.set(chain("two"), "two");
    expect([memory.get(chain("one")), memory.get(chain("two"))]).toEqual([undefined, "two"]);
  });
});
