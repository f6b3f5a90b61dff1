import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import { createServer as createSocketServer } from "node:net";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import {
  agentRestAttester,
  agentSocketAttester,
  formatInitData,
  initDataField,
  measureImage,
  openAttester,
  parseInitData,
  parseTrustRoots,
  readInitDataDevice,
  runtimeRegisterAfter,
  tsmAttester,
  verifyEvidence,
} from "../../src/attestation/index.ts";
import { dcapPki, intelCollateral, makeQuote, now } from "./generator/dcap.ts";
import { eventLog, registersOf, secureBootEvent } from "./generator/event-log.ts";
import { amdPki, makeReport } from "./generator/snp.ts";
import { playKernel, type PlayedKernel } from "./kernel.ts";

const unchecked = { kind: "unchecked", reason: "not of interest here" } as const;
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

function kernel(options: Parameters<typeof playKernel>[0]): PlayedKernel {
  const played = playKernel(options);
  closers.push(() => played.stop());
  return played;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ociseal-attester-"));
  closers.push(() => rm(path, { recursive: true, force: true }));
  return path;
}

const digest = createHash("sha384").update("runtime data").digest();
const field = Buffer.concat([digest, Buffer.alloc(16)]);

describe("configfs-tsm", () => {
  it("gives TDX evidence that binds the data and carries the event log", async () => {
    const pki = dcapPki();
    const events = [secureBootEvent([1])];
    const played = kernel({ provider: "tdx_guest", answer: (inblob) => makeQuote(pki, { reportData: inblob, rtmr: registersOf(events) }) });
    const eventLogPath = join(await folder(), "CCEL");
    await writeFile(eventLogPath, eventLog(events, Buffer.alloc(4000, 0xff)));
    const attester = await openAttester({ tee: "auto", tsmPath: played.tsmPath, eventLogPath });
    const evidence = await attester.collect(digest);
    expect(attester.tee).toBe("tdx");
    expect(played.asked).toEqual([field]);
    expect(JSON.stringify(evidence["cc_eventlog"]).length).toBeLessThan(500);
    const result = verifyEvidence({
      evidence: { json: evidence },
      tee: "tdx",
      at: now,
      reportData: { kind: "equals", value: digest },
      initData: unchecked,
      intel: intelCollateral(pki),
      roots: parseTrustRoots([pki.root.der]),
    });
    expect(result).toMatchObject({ verdict: "accept", claims: { secureBoot: true } });
    expect(await readdir(played.tsmPath)).toEqual([]);
  });

  it.each(["parsed", "raw"] as const)("gives SNP evidence in %s form with the host's certificates", async (snpForm) => {
    const { vek, ask, ark, crl } = amdPki();
    const ids = ["63da758de6644564adc5f4b93be8accd", "4ab7b379bbac4fe4a02f05aef327c782"];
    const header = Buffer.alloc(72);
    for (const [i, [id, offset, length]] of (
      [
        [ids[0], 72, vek.length],
        [ids[1], 72 + vek.length, ask.length],
      ] as const
    ).entries()) {
      header.set(Buffer.from(id ?? "", "hex"), i * 24);
      header.writeUInt32LE(offset, i * 24 + 16);
      header.writeUInt32LE(length, i * 24 + 20);
    }
    const played = kernel({
      provider: "sev_guest",
      answer: (reportData) => makeReport({ reportData }),
      auxblob: Buffer.concat([header, vek, ask]),
    });
    const evidence = await tsmAttester({ tee: "snp", tsmPath: played.tsmPath, privlevel: 0, snpForm }).collect(digest);
    expect(played.privlevels).toEqual(["0"]);
    const result = verifyEvidence({
      evidence: { json: JSON.parse(JSON.stringify(evidence)) as unknown },
      at: now,
      reportData: { kind: "equals", value: digest },
      initData: unchecked,
      endorsements: { crl },
      roots: parseTrustRoots([ark]),
    });
    expect(result.findings.filter(({ severity }) => severity === "refusal")).toEqual([]);
  });

  it("asks again when somebody else wrote into the entry, and gives up when it goes on", async () => {
    const once = kernel({ provider: "sev_guest", answer: () => makeReport(), interference: (entry) => (entry === 1 ? 1 : 0) });
    await tsmAttester({ tee: "snp", tsmPath: once.tsmPath }).collect(digest);
    expect(once.asked).toHaveLength(2);
    const always = kernel({ provider: "sev_guest", answer: () => makeReport(), interference: () => 1 });
    await expect(tsmAttester({ tee: "snp", tsmPath: always.tsmPath }).collect(digest)).rejects.toMatchObject({
      code: "ERR_ATTESTER_FAILED",
    });
  });

  it("refuses another TEE than asked for, unknown providers and data that does not fit", async () => {
    const tdx = kernel({ provider: "tdx_guest", answer: () => Buffer.alloc(1) });
    await expect(tsmAttester({ tee: "snp", tsmPath: tdx.tsmPath }).collect(digest)).rejects.toMatchObject({ code: "ERR_ATTESTER_FAILED" });
    const other = kernel({ provider: "arm_cca_guest", answer: () => Buffer.alloc(1) });
    await expect(tsmAttester({ tee: "tdx", tsmPath: other.tsmPath }).collect(digest)).rejects.toThrow("unknown");
    await expect(tsmAttester({ tee: "tdx", tsmPath: tdx.tsmPath }).collect(Buffer.alloc(65))).rejects.toMatchObject({
      code: "ERR_REPORT_DATA_LENGTH",
    });
    await expect(tsmAttester({ tee: "tdx", tsmPath: join(await folder(), "absent") }).collect(digest)).rejects.toMatchObject({
      code: "ERR_ATTESTER_UNAVAILABLE",
    });
  });

  it("stops waiting for an answer when interrupted", async () => {
    const silent = kernel({ provider: "tdx_guest", answer: () => Buffer.alloc(0) });
    const controller = new AbortController();
    const collected = tsmAttester({ tee: "tdx", tsmPath: silent.tsmPath }).collect(digest, { signal: controller.signal });
    controller.abort();
    await expect(collected).rejects.toMatchObject({ code: "ERR_ATTESTER_FAILED" });
  });
});

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  closers.push(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  const address = server.address();
  return typeof address === "object" && address !== null ? `http://127.0.0.1:${address.port}` : "";
}

describe("the attestation agent", () => {
  it("is asked over REST, and found by its REST proxy", async () => {
    const asked: string[] = [];
    const url = await listen(
      createServer((request, response) => {
        const target = new URL(request.url ?? "", "http://agent");
        if (target.pathname === "/info") response.end(JSON.stringify({ version: "0.16", tee: "tdx" }));
        else if (target.pathname === "/aa/evidence") {
          asked.push(target.searchParams.get("runtime_data") ?? "");
          response.end(JSON.stringify({ quote: "AA==" }));
        } else response.writeHead(404).end("URL NOT FOUND");
      }),
    );
    const nowhere = join(await folder(), "none");
    const attester = await openAttester({ tee: "auto", tsmPath: nowhere, agentSocket: nowhere, agentUrl: url });
    expect(await attester.collect(digest)).toEqual({ quote: "AA==" });
    expect(asked).toEqual([digest.toString("base64")]);
    await expect(openAttester({ tee: "snp", tsmPath: nowhere, agentSocket: nowhere, agentUrl: url })).rejects.toThrow(
      "this is a tdx guest",
    );
  });

  it("that fails or is away says so", async () => {
    const failing = await listen(createServer((_request, response) => response.writeHead(500).end("no quote today")));
    await expect(agentRestAttester({ tee: "tdx", url: failing }).collect(digest)).rejects.toThrow("answered 500: no quote today");
    const wrong = await listen(createServer((_request, response) => response.end("[]")));
    await expect(agentRestAttester({ tee: "tdx", url: wrong }).collect(digest)).rejects.toMatchObject({ code: "ERR_ATTESTER_FAILED" });
    await expect(agentRestAttester({ tee: "tdx", url: "http://127.0.0.1:9" }).collect(digest)).rejects.toMatchObject({
      code: "ERR_ATTESTER_UNAVAILABLE",
    });
  });

  /** Answers every call with one frame, in one piece or byte by byte. */
  async function agent(respond: (method: string, payload: Buffer) => Buffer, pieces: "whole" | "bytes" = "whole"): Promise<string> {
    const socketPath = join(await folder(), "aa.sock");
    const server = createSocketServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", (frame: Buffer) => {
        const text = frame.toString("latin1");
        const method = text.includes("GetTeeType") ? "GetTeeType" : "GetEvidence";
        const answer = respond(method, frame);
        if (pieces === "whole") socket.end(answer);
        else for (const byte of answer) socket.write(Buffer.from([byte]));
      });
    });
    await new Promise<void>((resolve) => void server.listen(socketPath, resolve));
    closers.push(() => new Promise<void>((resolve) => void server.close(() => resolve())));
    return socketPath;
  }

  const bytesField = (number: number, content: Buffer) => Buffer.concat([Buffer.from([(number << 3) | 2, content.length]), content]);
  const frame = (message: Buffer, type = 2) => {
    const header = Buffer.alloc(10);
    header.writeUInt32BE(message.length, 0);
    header.writeUInt32BE(1, 4);
    header[8] = type;
    return Buffer.concat([header, message]);
  };

  it("is asked over ttrpc", async () => {
    let request: Buffer = Buffer.alloc(0);
    const socketPath = await agent((method, payload) => {
      request = payload;
      return frame(bytesField(2, bytesField(1, Buffer.from(method === "GetTeeType" ? "snp" : '{"attestation_report":""}'))));
    }, "bytes");
    const attester = await openAttester({ tee: "auto", tsmPath: "/nowhere", agentSocket: socketPath });
    expect(attester.tee).toBe("snp");
    expect(await attester.collect(digest)).toEqual({ attestation_report: "" });
    expect(request.readUInt32BE(0)).toBe(request.length - 10);
    expect(request.toString("latin1")).toContain("attestation_agent.AttestationAgentService");
    expect(request.includes(digest)).toBe(true);
  });

  it.each([
    ["a refusal", frame(bytesField(1, Buffer.concat([Buffer.from([8, 2]), bytesField(2, Buffer.from("no TEE"))]))), "no TEE"],
    ["another stream's answer", Buffer.from("00000000000000030200", "hex"), "no response to the call"],
    ["a request in place of a response", frame(Buffer.alloc(0), 1), "no response to the call"],
    ["a cut message", frame(Buffer.from([0x12, 0x50])), "ends early"],
    ["a wire type that is not used", frame(Buffer.from([0x15, 0])), "wire type 5"],
    ["a message that is too long", Buffer.from("7fffffff000000010200", "hex"), "more than"],
    ["no answer", Buffer.alloc(0), "without an answer"],
    ["an answer that is no JSON", frame(bytesField(2, bytesField(1, Buffer.from("x")))), "JSON"],
  ])("that answers with %s is an error", async (_what, answer, message) => {
    const socketPath = await agent(() => answer);
    await expect(agentSocketAttester({ tee: "snp", socketPath }).collect(digest)).rejects.toThrow(message);
  });

  it("is looked for in vain where there is none", async () => {
    await expect(
      openAttester({ tee: "auto", tsmPath: "/nowhere", agentSocket: "/nowhere", agentUrl: "http://127.0.0.1:9" }),
    ).rejects.toMatchObject({ code: "ERR_ATTESTER_UNAVAILABLE" });
    expect((await openAttester({ tee: "sample" })).tee).toBe("sample");
  });
});

describe("the runtime register", () => {
  it("is extended with what stands for the image, and never made where it is not", async () => {
    const register = join(await folder(), "rtmr3:sha384");
    const image = `sha256:${"5e".repeat(32)}` as const;
    await expect(measureImage(image, { register })).rejects.toMatchObject({ code: "ERR_ATTESTER_UNAVAILABLE" });
    await writeFile(register, Buffer.alloc(48));
    await measureImage(image, { register });
    const written = await readFile(register);
    expect(written).toEqual(createHash("sha384").update(`ociseal/image/1 ${image}`).digest());
    expect(runtimeRegisterAfter([image])).toEqual(createHash("sha384").update(Buffer.alloc(48)).update(written).digest());
    expect(runtimeRegisterAfter([])).toEqual(Buffer.alloc(48));
  });
});

describe("init-data", () => {
  it("is written for a TEE and read back with the digest of its very text", () => {
    const { text, digest: written } = formatInitData(
      { "aa.toml": '[token_configs.kbs]\nurl = "https://kbs.example"\n', "policy.rego": "package agent_policy" },
      "sha384",
    );
    const read = parseInitData(text);
    expect(read).toMatchObject({ algorithm: "sha384", digest: written });
    expect(read.data["policy.rego"]).toBe("package agent_policy");
    expect(createHash("sha384").update(text).digest()).toEqual(written);
    expect(parseInitData(`${text}\n`).digest).not.toEqual(written);
  });

  it("fits the field of each TEE as the runtime does", () => {
    const long = Buffer.alloc(64, 9);
    expect(initDataField("snp", long)).toEqual(Buffer.alloc(32, 9));
    expect(initDataField("tdx", long.subarray(0, 32))).toEqual(Buffer.concat([Buffer.alloc(32, 9), Buffer.alloc(16)]));
    expect(initDataField("sgx", long)).toEqual(long);
  });

  it.each([
    ["no TOML", "= ="],
    ["no algorithm", 'version = "0.1.0"\n[data]\n'],
    ["another algorithm", 'version = "0.1.0"\nalgorithm = "md5"\n[data]\n'],
    ["no version", 'algorithm = "sha256"\n[data]\n'],
    ["no data", 'version = "0.1.0"\nalgorithm = "sha256"\n'],
    ["an entry that is no text", 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\nx = 1\n'],
    ["too much", `# ${"x".repeat(1 << 20)}`],
  ])("with %s is refused", (_what, text) => {
    expect(() => parseInitData(text)).toThrow(expect.objectContaining({ code: "ERR_INIT_DATA_MALFORMED" }) as Error);
  });

  it("is read from a guest's block device", () => {
    const zipped = gzipSync("text");
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(zipped.length));
    const device = Buffer.concat([Buffer.from("initdata"), length, zipped, Buffer.alloc(100)]);
    expect(readInitDataDevice(device)).toBe("text");
    for (const broken of [
      device.subarray(1),
      device.subarray(0, 20),
      Buffer.alloc(3),
      Buffer.concat([device.subarray(0, 16), Buffer.alloc(200)]),
    ]) {
      expect(() => readInitDataDevice(broken)).toThrow("init-data");
    }
    const bomb = gzipSync(Buffer.alloc(4 << 20));
    length.writeBigUInt64LE(BigInt(bomb.length));
    expect(() => readInitDataDevice(Buffer.concat([Buffer.from("initdata"), length, bomb]))).toThrow("at most 1 MiB");
  });
});
