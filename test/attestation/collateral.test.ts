import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  describeBundle,
  directoryCache,
  emptyBundle,
  exportDcapQvl,
  fetchAmdCollateral,
  fetchIntelCollateral,
  formatBundle,
  hardwareVerifier,
  importCertTable,
  importCollateral,
  loadCollateral,
  memoryCache,
  mergeBundles,
  offlineCollateral,
  parseBundle,
  parsePolicy,
  parseQuote,
  parseTrustRoots,
  vendorCollateral,
  verifyEvidence,
  type CollateralBundle,
} from "../../src/attestation/index.ts";
import { vcekPath } from "../../src/attestation/collateral/fetch-amd.ts";
import { splitSignedBody } from "../../src/attestation/collateral/signed-body.ts";
import { dcapPki, fmspc, intelCollateral, makeQuote, now, qeIdentityJson, tcbInfoJson } from "./generator/dcap.ts";
import { eventLog, secureBootEvent } from "./generator/event-log.ts";
import { pem } from "./generator/pki.ts";
import { amdPki, chipId, makeReport } from "./generator/snp.ts";

const unchecked = { kind: "unchecked", reason: "not of interest here" } as const;
const pki = dcapPki();
const roots = parseTrustRoots([pki.root.der]);
const intel = intelCollateral(pki);
const amd = amdPki();
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ociseal-collateral-"));
  closers.push(() => rm(path, { recursive: true, force: true }));
  return path;
}

const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString("hex");
const chain = pem(pki.signer.der, pki.root.der);
const bodies = {
  tcb: `{"tcbInfo":${tcbInfoJson()},"signature":"${hex(intel.tcbInfo?.signature)}"}`,
  qe: `{"enclaveIdentity":${qeIdentityJson()},"signature":"${hex(intel.qeIdentity?.signature)}"}`,
};
const dcapQvl = {
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
const json = (value: unknown) => Buffer.from(JSON.stringify(value), "utf8");
const verifyWith = (collateral: CollateralBundle) =>
  verifyEvidence({ evidence: makeQuote(pki), at: now, reportData: unchecked, initData: unchecked, collateral, roots });

describe("a bundle", () => {
  it("keeps signed bytes through every form that it is read from and written to", () => {
    const fromQvl = importCollateral(json(dcapQvl), { now, from: "test" });
    expect(verifyWith(fromQvl)).toMatchObject({ verdict: "accept" });
    const text = formatBundle(fromQvl);
    const reread = parseBundle(Buffer.from(text));
    expect(verifyWith(reread)).toMatchObject({ verdict: "accept" });
    expect(formatBundle(reread)).toBe(text);
    expect(JSON.parse(exportDcapQvl(reread, parseQuote(makeQuote(pki))))).toEqual(dcapQvl);
    expect(verifyWith(importCollateral(Buffer.from(text), { now }))).toMatchObject({ verdict: "accept" });
  });

  it("reads what Intel's PCS client tool writes", () => {
    const tool = {
      collaterals: {
        tcbinfos: [{ fmspc: fmspc.toUpperCase(), tdx_tcbinfo: JSON.parse(bodies.tcb) as unknown, sgx_tcbinfo: "" }],
        pckcacrl: { platformCrl: hex(intel.pckCrl), processorCrl: "" },
        tdqeidentity: bodies.qe,
        certificates: {
          "TCB-Info-Issuer-Chain": encodeURIComponent(chain),
          "SGX-Enclave-Identity-Issuer-Chain": chain,
          "SGX-PCK-Certificate-Issuer-Chain": { PLATFORM: pem(pki.intermediate.der, pki.root.der) },
        },
        rootcacrl: hex(intel.rootCaCrl),
      },
    };
    const bundle = importCollateral(json(tool), { now });
    expect(bundle.pckCrls.map(({ ca }) => ca)).toEqual(["platform"]);
    expect(verifyWith(bundle)).toMatchObject({ verdict: "accept" });
  });

  it("reads folders: bundles beside a Trustee store of VCEKs, whatever its files are called", async () => {
    const path = await folder();
    await writeFile(join(path, "a.json"), json(dcapQvl));
    await mkdir(join(path, "vcek", "chip"), { recursive: true });
    await writeFile(join(path, "vcek", "chip", "bl99_vcek.der"), amd.vek);
    await writeFile(join(path, "vcek", "chip", "garbage.der"), "x");
    const bundle = await loadCollateral(path, now);
    expect(verifyWith(bundle)).toMatchObject({ verdict: "accept" });
    expect(bundle.vceks).toMatchObject([{ product: "Milan", hwid: hex(chipId("Milan")), tcb: "04000000000018db" }]);
    const result = verifyEvidence({
      evidence: makeReport(),
      at: now,
      reportData: unchecked,
      initData: unchecked,
      collateral: bundle,
      endorsements: { ask: amd.ask },
      roots: parseTrustRoots([amd.ark]),
    });
    expect(result).toMatchObject({ verdict: "accept" });
    await expect(loadCollateral(join(path, "absent"), now)).rejects.toMatchObject({ code: "ERR_COLLATERAL_MALFORMED" });
  });

  it("reads vendor answers saved file by file, with headers or a chain beside them, whatever the files are called", async () => {
    const path = await folder();
    await writeFile(join(path, "1.json"), bodies.tcb);
    await writeFile(join(path, "1.json.headers"), `HTTP/1.1 200 OK\r\nTCB-Info-Issuer-Chain: ${encodeURIComponent(chain)}\r\n`);
    await writeFile(join(path, "2.json"), bodies.qe);
    await writeFile(join(path, "signer.pem"), chain);
    await writeFile(join(path, "3.der"), intel.pckCrl ?? "");
    await writeFile(
      join(path, "4.pem"),
      `-----BEGIN X509 CRL-----\n${Buffer.from(intel.rootCaCrl ?? []).toString("base64")}\n-----END X509 CRL-----\n`,
    );
    await writeFile(join(path, "amd.pem"), pem(amd.ask, amd.ark));
    await writeFile(join(path, "amd.crl"), amd.crl);
    await writeFile(join(path, "vek"), amd.vek);
    await writeFile(join(path, "README"), "not collateral");
    const bundle = await loadCollateral(path, now);
    expect(verifyWith(bundle)).toMatchObject({ verdict: "accept" });
    const result = verifyEvidence({
      evidence: makeReport(),
      at: now,
      reportData: unchecked,
      initData: unchecked,
      collateral: bundle,
      roots: parseTrustRoots([amd.ark]),
    });
    expect(result).toMatchObject({ verdict: "accept", claims: { revocation_checked: true } });
    expect((await loadCollateral(join(path, "amd.crl"), now)).amd.Milan?.vcekCrl?.der).toEqual(amd.crl);
    await expect(loadCollateral(join(path, "README"), now)).rejects.toMatchObject({ code: "ERR_COLLATERAL_MALFORMED" });
  });

  it("reads a host's certificate table", () => {
    const header = Buffer.alloc(48);
    header.set(Buffer.from("63da758de6644564adc5f4b93be8accd", "hex"));
    header.writeUInt32LE(48, 16);
    header.writeUInt32LE(amd.vek.length, 20);
    expect(importCertTable(Buffer.concat([header, amd.vek]), now).vceks).toHaveLength(1);
  });

  it("is merged item by item, the later one winning", () => {
    const old = importCollateral(json({ ...dcapQvl, tcb_info_signature: "00".repeat(64) }), { now });
    const fresh = importCollateral(json(dcapQvl), { now });
    expect(verifyWith(mergeBundles(old, fresh))).toMatchObject({ verdict: "accept" });
    expect(verifyWith(mergeBundles(fresh, old))).toMatchObject({ verdict: "reject" });
    expect(mergeBundles(old, fresh).tcbInfos).toHaveLength(1);
  });

  it("is described item by item, with the next expiry", () => {
    const { rows, nextExpiry } = describeBundle(importCollateral(json({ ...dcapQvl, root_ca_crl: "zz" }), { now, from: "test" }), now);
    expect(rows.map(({ item, state }) => `${item}: ${state}`)).toEqual([
      "Intel root CRL: unreadable",
      "PCK CRL (platform): current",
      "QE identity (tdx): current",
      `TCB info (tdx ${fmspc}): current`,
    ]);
    expect(rows.at(-1)).toMatchObject({ daysLeft: 18, tcbEvaluationDataNumber: 19, source: "test" });
    expect(nextExpiry).toBe("2027-06-15T00:00:00.000Z");
    expect(
      describeBundle(importCollateral(json(dcapQvl), { now }), new Date("2028-06-01T00:00:00Z")).rows.every(
        ({ state }) => state === "expired",
      ),
    ).toBe(true);
  });

  it.each([
    ["no JSON", Buffer.from("x")],
    ["a list", Buffer.from("[]")],
    ["an unknown form", json({ some: "thing" })],
    ["an unknown member", json({ format: "ociseal-collateral/1", createdAt: "x", intell: {} })],
    ["an unknown product", json({ format: "ociseal-collateral/1", createdAt: "x", amd: { Rome: {} } })],
    ["bytes that are no base64", json({ format: "ociseal-collateral/1", createdAt: "x", intel: { rootCaCrl: { der: "*" } } })],
    ["a number for a text", json({ ...dcapQvl, tcb_info: 4 })],
  ])("with %s is refused", (_what, bytes) => {
    expect(() => importCollateral(bytes, { now })).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^ERR_(?:COLLATERAL|JSON)_MALFORMED$/) as unknown }) as Error,
    );
  });

  it("that lacks or mangles an item gets findings, not exceptions", () => {
    expect(verifyWith(emptyBundle("now")).findings.map(({ code }) => code)).toContain("TCB_INFO_MISSING");
    const mangled = importCollateral(json({ ...dcapQvl, pck_crl: "not hex", tcb_info: "{}" }), { now });
    expect(verifyWith(mangled).findings.map(({ code }) => code)).toEqual(expect.arrayContaining(["DER_MALFORMED", "COLLATERAL_MALFORMED"]));
    const twice = importCollateral(json({ ...dcapQvl, tcb_info: tcbInfoJson().replace('"version":3', '"version":3,"version":3') }), {
      now,
    });
    expect(verifyWith(twice).findings.map(({ code }) => code)).toContain("COLLATERAL_MALFORMED");
  });
});

describe("a signed answer", () => {
  it("gives the value's bytes exactly as they stand, whatever surrounds them", () => {
    const value = '{ "a": "}\\"{", "b": [1, {"c": 2}],\t"ü": "é" }';
    for (const body of [
      `{"tcbInfo":${value},"signature":"00"}`,
      `{ "signature" : "00" , "tcbInfo" :\n ${value} }`,
      `{"x":{"tcbInfo":1},"y":[[]],"z":"tcbInfo","tcbInfo":${value},"signature":"00"}`,
    ]) {
      expect(splitSignedBody(Buffer.from(body), "tcbInfo").value.toString("utf8")).toBe(value);
    }
    expect(splitSignedBody(Buffer.from('{"tcbInfo":{}}'), "tcbInfo").signature).toHaveLength(0);
    expect(() => splitSignedBody(Buffer.from('{"enclaveIdentity":{}}'), "tcbInfo")).toThrow("no member tcbInfo");
  });
});

/** A service on loopback that counts what it is asked. */
async function service(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ readonly url: string; readonly asked: string[]; readonly server: Server }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    handle(request, response);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  closers.push(
    () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );
  const address = server.address();
  return { url: typeof address === "object" && address !== null ? `http://127.0.0.1:${address.port}` : "", asked, server };
}

function pccs(request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? "", "http://pccs");
  const header = { "content-type": "application/json" };
  if (pathname.endsWith("/tcb")) response.writeHead(200, { ...header, "TCB-Info-Issuer-Chain": encodeURIComponent(chain) }).end(bodies.tcb);
  else if (pathname.endsWith("/qe/identity"))
    response.writeHead(200, { ...header, "SGX-Enclave-Identity-Issuer-Chain": encodeURIComponent(chain) }).end(bodies.qe);
  else if (pathname.endsWith("/pckcrl"))
    response
      .writeHead(200, { "SGX-PCK-CRL-Issuer-Chain": encodeURIComponent(pem(pki.intermediate.der, pki.root.der)) })
      .end(hex(intel.pckCrl));
  else if (pathname.endsWith("/rootcacrl")) response.writeHead(200).end(hex(intel.rootCaCrl));
  else response.writeHead(404).end();
}

describe("fetching from Intel's service or a PCCS", () => {
  it("brings everything that a quote needs, and asks only once while it is fresh", async () => {
    const { url, asked } = await service(pccs);
    const cache = directoryCache(await folder());
    const request = { tee: "tdx", fmspc, ca: "platform", service: url } as const;
    const bundle = await fetchIntelCollateral(request, { cache, now });
    expect(verifyWith(bundle)).toMatchObject({ verdict: "accept" });
    expect(asked).toEqual([
      `/tdx/certification/v4/tcb?fmspc=${fmspc}`,
      "/tdx/certification/v4/qe/identity",
      "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
      "/sgx/certification/v4/rootcacrl",
    ]);
    await fetchIntelCollateral(request, { cache, now });
    expect(asked).toHaveLength(4);
    await fetchIntelCollateral({ ...request, update: "early" }, { cache, now: new Date(now.getTime() + 13 * 3_600_000) });
    expect(asked.slice(4)[0]).toBe(`/tdx/certification/v4/tcb?fmspc=${fmspc}&update=early`);
    expect(asked).toHaveLength(8);
  });

  it("serves an older answer while the service is away, and says so without one", async () => {
    let away = false;
    const { url } = await service((request, response) => (away ? response.writeHead(400).end() : pccs(request, response)));
    const cache = memoryCache();
    const request = { tee: "tdx", fmspc, ca: "platform", service: url } as const;
    await fetchIntelCollateral(request, { cache, now });
    away = true;
    const later = new Date(now.getTime() + 5 * 86_400_000);
    expect(verifyWith(await fetchIntelCollateral(request, { cache, now: later }))).toMatchObject({ verdict: "accept" });
    await expect(fetchIntelCollateral(request, { cache: memoryCache(), now })).rejects.toMatchObject({
      code: "ERR_COLLATERAL_UNAVAILABLE",
    });
  });

  it("retries 429 and 503 as asked, and not longer than allowed", async () => {
    const waits = ["0", "0"];
    const { url, asked } = await service((request, response) => {
      const wait = waits.shift();
      if (wait === undefined) pccs(request, response);
      else response.writeHead(waits.length === 1 ? 429 : 503, { "retry-after": wait }).end();
    });
    const request = { tee: "tdx", fmspc, ca: "platform", service: url } as const;
    await fetchIntelCollateral(request, { cache: memoryCache(), now });
    expect(asked).toHaveLength(6);
    const { url: slow } = await service((_request, response) => response.writeHead(429, { "retry-after": "3600" }).end());
    await expect(fetchIntelCollateral({ ...request, service: slow }, { cache: memoryCache(), now })).rejects.toThrow("asks to wait 3600 s");
  });

  it("tells an unknown platform from an unreachable service", async () => {
    const { url } = await service((_request, response) => response.writeHead(404).end());
    await expect(
      fetchIntelCollateral({ tee: "tdx", fmspc, ca: "platform", service: url }, { cache: memoryCache(), now }),
    ).rejects.toMatchObject({ code: "ERR_COLLATERAL_NOT_FOUND" });
    const controller = new AbortController();
    controller.abort();
    await expect(
      fetchIntelCollateral({ tee: "tdx", fmspc, ca: "platform", service: url }, { cache: memoryCache(), now, signal: controller.signal }),
    ).rejects.toMatchObject({ code: "ERR_COLLATERAL_UNAVAILABLE" });
    await expect(
      fetchIntelCollateral({ tee: "tdx", fmspc: "x", ca: "platform", service: url }, { cache: memoryCache(), now }),
    ).rejects.toMatchObject({ code: "ERR_COLLATERAL_MALFORMED" });
  });

  it("refuses an answer without its chain, or larger than any answer is", async () => {
    const { url } = await service((_request, response) => response.writeHead(200).end(bodies.tcb));
    await expect(fetchIntelCollateral({ tee: "tdx", fmspc, ca: "platform", service: url }, { cache: memoryCache(), now })).rejects.toThrow(
      "no header",
    );
    const { url: huge } = await service((_request, response) => response.writeHead(200).end(Buffer.alloc((1 << 20) + 1)));
    await expect(
      fetchIntelCollateral({ tee: "tdx", fmspc, ca: "platform", service: huge }, { cache: memoryCache(), now, maxWaitMs: 1 }),
    ).rejects.toMatchObject({ code: "ERR_COLLATERAL_UNAVAILABLE" });
  });

  it("forgets a damaged cache entry", async () => {
    const { url, asked } = await service(pccs);
    const path = await folder();
    const request = { tee: "tdx", fmspc, ca: "platform", service: url } as const;
    await fetchIntelCollateral(request, { cache: directoryCache(path), now });
    for (const name of await readdir(path)) await writeFile(join(path, name), "{");
    await fetchIntelCollateral(request, { cache: directoryCache(path), now });
    expect(asked).toHaveLength(8);
  });
});

function kds(request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? "", "http://kds");
  if (pathname.endsWith("/cert_chain")) response.end(pem(amd.ask, amd.ark));
  else if (pathname.endsWith("/crl")) response.end(amd.crl);
  else if (pathname.startsWith("/vcek/v1/Milan/c1c1")) response.end(amd.vek);
  else response.writeHead(404).end();
}

describe("fetching from AMD's service", () => {
  it("brings chain, list and the VCEK of exactly this chip and TCB, which is kept for ever", async () => {
    const { url, asked } = await service(kds);
    const cache = memoryCache();
    const report = makeReport();
    const bundle = await fetchAmdCollateral({ report, service: url }, { cache, now });
    const result = verifyEvidence({
      evidence: report,
      at: now,
      reportData: unchecked,
      initData: unchecked,
      collateral: bundle,
      roots: parseTrustRoots([amd.ark]),
    });
    expect(result).toMatchObject({ verdict: "accept", claims: { revocation_checked: true } });
    expect(asked).toEqual([
      "/vcek/v1/Milan/cert_chain",
      "/vcek/v1/Milan/crl",
      `/vcek/v1/Milan/${"c1".repeat(64)}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219`,
    ]);
    await fetchAmdCollateral({ report, service: url }, { cache, now: new Date(now.getTime() + 400 * 86_400_000) });
    expect(asked.slice(3)).toEqual(["/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"]);
    expect(parseBundle(Buffer.from(formatBundle(bundle))).vceks).toHaveLength(1);
    expect(describeBundle(bundle, now).rows.map(({ state }) => state)).toEqual(["current", "current", "current"]);
  });

  it("asks for Turin with FMC first and eight bytes of chip", () => {
    expect(vcekPath("Turin", "c1".repeat(8), Buffer.from("0101020300000047", "hex"))).toBe(
      "vcek/v1/Turin/c1c1c1c1c1c1c1c1?fmcSPL=01&blSPL=01&teeSPL=02&snpSPL=03&ucodeSPL=71",
    );
  });

  it("says what cannot be fetched", async () => {
    const { url } = await service(kds);
    const masked = makeReport({ change: (report) => report.fill(0, 0x1a0, 0x1e0) });
    await expect(fetchAmdCollateral({ report: masked, service: url }, { cache: memoryCache(), now })).rejects.toThrow("masked");
    await expect(fetchAmdCollateral({ report: makeReport({ version: 2 }), service: url }, { cache: memoryCache(), now })).rejects.toThrow(
      "does not name it",
    );
  });
});

describe("the verifier of a key broker", () => {
  const evidence = { cc_eventlog: null, quote: makeQuote(pki, { reportData: Buffer.alloc(48, 3) }).toString("base64") };
  const request = { tee: "tdx", evidence, reportData: Buffer.alloc(48, 3), now } as const;

  it("gives claims for a token, with collateral at hand or fetched", async () => {
    const { url } = await service(pccs);
    const bundle = importCollateral(json(dcapQvl), { now });
    for (const collateral of [offlineCollateral(bundle), vendorCollateral({ intelService: url })]) {
      const claims = await hardwareVerifier({ collateral, roots }).verify(request);
      expect(claims).toMatchObject({
        claims: { tcb_status: "UpToDate", quote: { header: { tee_type: "81000000" } } },
        reportData: `${"03".repeat(48)}${"00".repeat(16)}`,
      });
    }
    const { url: kdsUrl } = await service(kds);
    const snp = await hardwareVerifier({ collateral: vendorCollateral({ amdService: kdsUrl }), roots: parseTrustRoots([amd.ark]) }).verify({
      tee: "snp",
      evidence: { attestation_report: makeReport({ reportData: Buffer.alloc(48, 3) }).toString("base64"), cert_chain: null },
      reportData: Buffer.alloc(48, 3),
      now,
    });
    expect(snp.claims).toMatchObject({ reported_tcb_snp: 24, policy_debug_allowed: false });
  });

  it("asks nobody about a quote that no collateral could save", async () => {
    const { url, asked } = await service(pccs);
    const verifier = hardwareVerifier({ collateral: vendorCollateral({ intelService: url }), roots });
    const reportData = Buffer.alloc(48, 3);
    const good = makeQuote(pki, { reportData });
    const flipped = (at: number) => Buffer.from(good).fill((good[at] ?? 0) ^ 1, at, at + 1);
    const stranger = dcapPki();
    const { pck: expired } = dcapPki({ pck: { notAfter: new Date("2027-02-01T00:00:00Z") } });
    for (const [quote, code] of [
      [makeQuote(pki, { reportData: Buffer.alloc(48, 4) }), "REPORT_DATA_MISMATCH"],
      [flipped(48 + 16), "QUOTE_SIGNATURE_INVALID"],
      [makeQuote(pki, { reportData, qeReport: (report) => report.fill(7, 320, 352) }), "QE_REPORT_DATA_MISMATCH"],
      [flipped(good.indexOf("-----BEGIN") + 200), "."],
      [makeQuote(stranger, { reportData }), "TRUST_ROOT_UNKNOWN"],
      [makeQuote(pki, { reportData, certification: { type: 5, data: Buffer.from(pem(pki.pck.der)) } }), "CERTIFICATE_CHAIN_MALFORMED"],
      [makeQuote({ ...pki, pck: expired }, { reportData }), "CERTIFICATE_EXPIRED"],
    ] as const) {
      const refused = verifier.verify({ ...request, evidence: { quote: quote.toString("base64"), cc_eventlog: null } });
      await expect(refused, code).rejects.toMatchObject({
        code: "ERR_EVIDENCE_REFUSED",
        details: { findings: expect.arrayContaining([expect.objectContaining({ code: expect.stringMatching(code) })]) },
      });
    }
    expect(asked).toEqual([]);
    await verifier.verify({ ...request, evidence: { quote: good.toString("base64"), cc_eventlog: null } });
    expect(asked.length).toBeGreaterThan(3);
  });

  it("asks nobody about a report that its own VCEK did not sign", async () => {
    const { url, asked } = await service(kds);
    const verifier = hardwareVerifier({
      collateral: vendorCollateral({ amdService: url }),
      roots: parseTrustRoots([amd.ark]),
    });
    const reportData = Buffer.alloc(48, 3);
    const good = makeReport({ reportData });
    const certificates = [
      { cert_type: "VCEK", data: [...amd.vek] },
      { cert_type: "ASK", data: [...amd.ask] },
    ];
    const ask = (report: Buffer) =>
      verifier.verify({
        tee: "snp",
        evidence: { attestation_report: report.toString("base64"), cert_chain: certificates },
        reportData,
        now,
      });
    for (const report of [makeReport({ reportData: Buffer.alloc(48, 4) }), Buffer.from(good).fill(1, 0x90, 0x91)]) {
      await expect(ask(report)).rejects.toMatchObject({ code: "ERR_EVIDENCE_REFUSED" });
    }
    expect(asked).toEqual([]);
    await ask(good);
    expect(asked.length).toBeGreaterThan(0);
  });

  it("refuses what does not hold, what the policy refuses, and a log that does not replay", async () => {
    const collateral = offlineCollateral(importCollateral(json(dcapQvl), { now }));
    const verifier = hardwareVerifier({ collateral, roots });
    const refused = { code: "ERR_EVIDENCE_REFUSED", category: "attestation" };
    await expect(verifier.verify({ ...request, reportData: Buffer.alloc(48, 4) })).rejects.toMatchObject(refused);
    await expect(verifier.verify({ ...request, tee: "snp" })).rejects.toMatchObject(refused);
    await expect(verifier.verify({ ...request, tee: "cca" })).rejects.toMatchObject(refused);
    await expect(verifier.verify({ ...request, evidence: "x" })).rejects.toMatchObject(refused);
    await expect(verifier.verify({ ...request, initDataDigest: Buffer.alloc(48, 1) })).rejects.toMatchObject(refused);
    const log = eventLog([secureBootEvent([1])]).toString("base64");
    await expect(verifier.verify({ ...request, evidence: { ...evidence, cc_eventlog: log } })).rejects.toMatchObject({
      details: { findings: [{ code: "EVENT_LOG_MISMATCH" }] },
    });
    const policy = parsePolicy(JSON.stringify({ version: "1.0", tee_type: "tdx", allowed_measurements: [] }));
    await expect(hardwareVerifier({ collateral, roots, policy }).verify(request)).rejects.toMatchObject({
      details: { findings: [{ code: "POLICY_MEASUREMENT" }] },
    });
  });
});
