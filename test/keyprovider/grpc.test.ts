import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, constants, type IncomingHttpHeaders } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import {
  keyProvider,
  serveKeyProvider,
  type CallEvent,
  type KeyProvider,
  type KeyProviderServer,
  type ServeRequest,
} from "../../src/keyprovider/index.ts";
import { parseProviderConfig, providerUnwrapper, providerWrapper } from "../../src/keywrap/index.ts";
import { ociseal, startServer } from "../cli/run.ts";

const folder = mkdtempSync(join(tmpdir(), "ociseal-grpc-"));
afterAll(() => rmSync(folder, { recursive: true }));
const servers: KeyProviderServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

/** Turns bytes round, so that the protocol is seen and not the keys. */
const turning: KeyProvider = {
  async answer(bytes, { operation } = {}) {
    const request = JSON.parse(Buffer.from(bytes).toString()) as {
      keywrapparams: { optsdata: string };
      keyunwrapparams: { annotation: string };
    };
    const input = operation === "wrap" ? request.keywrapparams.optsdata : request.keyunwrapparams.annotation;
    const turned = [...Buffer.from(input, "base64").reverse()];
    return JSON.stringify(operation === "wrap" ? { keywrapresults: { annotation: turned } } : { keyunwrapresults: { optsdata: turned } });
  },
  close: () => undefined,
};
const hanging: KeyProvider = {
  answer: (_request, { signal } = {}) => new Promise((_, no) => signal?.addEventListener("abort", () => no(signal.reason as Error))),
  close: () => undefined,
};

async function start(request: Partial<ServeRequest> = {}): Promise<KeyProviderServer> {
  const server = await serveKeyProvider({
    listen: { kind: "tcp", host: "127.0.0.1", port: 0 },
    provider: turning,
    ...request,
    limits: { graceMs: 200, ...request.limits },
  });
  servers.push(server);
  return server;
}

const client = (target: string, tls?: Readonly<Record<string, unknown>>, parameters?: readonly string[]) => {
  const config = parseProviderConfig(
    Buffer.from(JSON.stringify({ "key-providers": { mine: { grpc: target, ...(tls === undefined ? {} : { "grpc-tls": tls }) } } })),
  );
  return { wrapper: providerWrapper({ config, name: "mine", parameters }), unwrapper: providerUnwrapper({ config, name: "mine" }) };
};

interface Raw {
  readonly headers?: IncomingHttpHeaders;
  readonly body?: Uint8Array;
  readonly end?: "ended" | "left-open";
}

/** One call as nobody's library would make it. Returns status and headers, trailers among them. */
function raw(
  target: string,
  { headers = {}, body = frame('{"op":"x"}'), end = "ended" }: Raw = {},
): Promise<Readonly<Record<string, unknown>>> {
  const session = connect(`http://${target}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/keyprovider.KeyProviderService/WrapKey",
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  return new Promise((resolve, reject) => {
    let found: Record<string, unknown> = {};
    let size = 0;
    stream.on("response", (more) => (found = { ...found, ...more }));
    stream.on("trailers", (more) => (found = { ...found, ...more }));
    stream.on("data", (chunk: Buffer) => (size += chunk.length));
    stream.once("error", reject);
    stream.once("close", () => {
      session.destroy();
      resolve({ ...found, size });
    });
    stream.write(body);
    if (end === "ended") stream.end();
  });
}

function frame(json: string): Buffer {
  const text = Buffer.from(json);
  const varint = text.length < 128 ? [text.length] : [(text.length & 0x7f) | 0x80, text.length >> 7];
  const message = Buffer.concat([Buffer.from([0x0a, ...varint]), text]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

describe("the key provider service", () => {
  it("wraps and unwraps over TCP and over a socket that is its owner's alone", async () => {
    const path = join(folder, "provider.sock");
    for (const listen of [{ kind: "tcp", host: "127.0.0.1", port: 0 } as const, { kind: "unix", path } as const]) {
      const { target } = await start({ listen });
      const { wrapper, unwrapper } = client(target);
      const [packet] = await wrapper.wrap(Buffer.from("secret"));
      expect(Buffer.from(packet?.bytes ?? []).toString()).toBe("terces");
      expect(Buffer.from((await unwrapper.unwrap({ scheme: "provider.mine", bytes: Buffer.from("abc") })) ?? []).toString()).toBe("cba");
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it("answers many calls at once", async () => {
    const { target } = await start();
    const { wrapper } = client(target);
    const texts = Array.from({ length: 40 }, (_, n) => `number ${n}`);
    const packets = await Promise.all(texts.map((text) => wrapper.wrap(Buffer.from(text))));
    expect(
      packets.map(([packet]) =>
        Buffer.from(packet?.bytes ?? [])
          .reverse()
          .toString(),
      ),
    ).toEqual(texts);
  });

  it("serves only callers with a certificate where it was given authorities", async () => {
    const tls = certificates();
    const { target } = await start({
      tls: { certificate: tls.read("server.pem"), privateKey: tls.read("server.key"), clientAuthorities: tls.read("ca.pem") },
    });
    const settings = { "root-ca-file": tls.path("ca.pem"), "server-name": "localhost" };
    const known = client(target, { ...settings, "cert-file": tls.path("client.pem"), "key-file": tls.path("client.key") });
    const [packet] = await known.wrapper.wrap(Buffer.from("secret"));
    expect(Buffer.from(packet?.bytes ?? []).toString()).toBe("terces");
    await expect(client(target, settings).wrapper.wrap(Buffer.from("secret"))).rejects.toMatchObject({
      code: "ERR_KEYWRAP_PROVIDER_FAILED",
    });
    await expect(client(target).wrapper.wrap(Buffer.from("secret"))).rejects.toMatchObject({ code: "ERR_KEYWRAP_PROVIDER_FAILED" });
  });

  it("does so from the command line too, for many calls at once", async () => {
    const tls = certificates();
    const pair = ["--tls-cert", tls.path("server.pem"), "--tls-key", tls.path("server.key")];
    const args = ["keyprovider", "serve", "--listen", "127.0.0.1:0", "--name", "mine", "--allow-sample", ...pair];
    const server = await startServer([...args, "--tls-client-ca", tls.path("ca.pem")], { cwd: folder });
    try {
      const settings = { "root-ca-file": tls.path("ca.pem"), "server-name": "localhost" };
      const known = { ...settings, "cert-file": tls.path("client.pem"), "key-file": tls.path("client.key") };
      const target = server.ready["listening"] ?? "";
      const wrap = (how: Readonly<Record<string, unknown>>) =>
        client(target, how, ["sample=true"]).wrapper.wrap(Buffer.from('{"symkey":"AAAA"}'));
      const packets = await Promise.all(Array.from({ length: 20 }, () => wrap(known)));
      const wrapped = packets.map(([packet]) => (JSON.parse(Buffer.from(packet?.bytes ?? []).toString()) as { iv: string }).iv);
      expect(new Set(wrapped).size).toBe(20);
      await expect(wrap(settings)).rejects.toMatchObject({ code: "ERR_KEYWRAP_PROVIDER_FAILED" });
    } finally {
      expect(await server.stop()).toBe(0);
    }
    expect(await ociseal([...args.slice(0, -2), "--tls-client-ca", tls.path("ca.pem")], { cwd: folder })).toMatchObject({ status: 2 });
  });

  it("does not listen beyond loopback without client certificates", async () => {
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "example.org"]) {
      await expect(start({ listen: { kind: "tcp", host, port: 0 } })).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_LISTEN" });
      const tls = { certificate: "", privateKey: "" };
      await expect(start({ listen: { kind: "tcp", host, port: 0 }, tls })).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_LISTEN" });
    }
  });

  it("takes the place of a socket that nobody answers on, and of nothing else", async () => {
    const path = join(folder, "stale.sock");
    // A process that is killed leaves its socket behind.
    const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(process.execPath, ["-e", script]);
    expect(statSync(path).isSocket()).toBe(true);
    const listen = { kind: "unix", path } as const;
    const { target } = await start({ listen });
    expect(target).toBe(`unix://${path}`);
    await expect(start({ listen })).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_LISTEN" });
    const file = join(folder, "file");
    writeFileSync(file, "precious");
    await expect(start({ listen: { kind: "unix", path: file } })).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_LISTEN" });
    expect(readFileSync(file, "utf8")).toBe("precious");
  });

  it.each([
    ["another method", { headers: { ":path": "/keyprovider.KeyProviderService/Reveal" } }, "12"],
    ["a compressed message", { body: Buffer.concat([Buffer.of(1), frame("{}").subarray(1)]) }, "12"],
    ["a compression", { headers: { "grpc-encoding": "gzip" } }, "12"],
    ["no message", { body: Buffer.alloc(0) }, "3"],
    ["half a head", { body: Buffer.alloc(3) }, "3"],
    ["a length that is too long", { body: Buffer.from("000000ff00aa", "hex") }, "3"],
    ["two messages", { body: Buffer.concat([frame("{}"), frame("{}")]) }, "3"],
    ["no protobuf", { body: Buffer.from("0000000002ffff", "hex") }, "3"],
    ["an empty message", { body: Buffer.alloc(5) }, "3"],
    ["a malformed deadline", { headers: { "grpc-timeout": "soon" } }, "3"],
    ["a message without end", { body: Buffer.alloc(5 << 20), end: "left-open" as const }, "8"],
  ])("refuses %s with a status", async (_what, call, status) => {
    const { target } = await start();
    expect(await raw(target, call)).toMatchObject({ ":status": 200, "grpc-status": status, size: 0 });
  });

  it("answers what is not gRPC in HTTP", async () => {
    const { target } = await start();
    expect(await raw(target, { headers: { "content-type": "application/json" } })).toMatchObject({ ":status": 415 });
    expect(await raw(target, { headers: { ":method": "PUT" } })).toMatchObject({ ":status": 405 });
  });

  it("says what an error of ours says, and of others only that there was one", async () => {
    const failing: KeyProvider = {
      async answer() {
        throw new Error("the key is 0123");
      },
      close: () => undefined,
    };
    const { target } = await start({ provider: failing });
    const answer = await raw(target);
    expect(answer).toMatchObject({ "grpc-status": "13" });
    expect(JSON.stringify(answer)).not.toContain("0123");
    const refusing = await start({
      provider: keyProvider({
        registry: undefined,
        readKeyFile: undefined,
        unwrappers: async () => [],
        sample: "refused",
        freshTag: () => "x",
        now: () => 0,
      }),
    });
    const words = await raw(refusing.target);
    expect(words["grpc-message"]).toMatch(/ERR_KEYPROVIDER_REQUEST/);
  });

  it("ends a call at its deadline, and one whose caller has left", async () => {
    const events: CallEvent[] = [];
    const { target } = await start({ provider: hanging, log: (event) => events.push(event) });
    expect(await raw(target, { headers: { "grpc-timeout": "50m" } })).toMatchObject({ "grpc-status": "4" });
    const session = connect(`http://${target}`);
    const stream = session.request({
      ":method": "POST",
      ":path": "/keyprovider.KeyProviderService/WrapKey",
      "content-type": "application/grpc",
    });
    stream.end(frame("{}"));
    stream.on("error", () => undefined);
    setImmediate(() => stream.close(constants.NGHTTP2_CANCEL));
    await new Promise((resolve) => stream.once("close", resolve));
    session.destroy();
    await expect.poll(() => events.map(({ status }) => status)).toEqual([4, 1]);
  });

  it("refuses calls beyond its limit, and stops although some are under way", async () => {
    const server = await start({ provider: hanging, limits: { maxCalls: 1 } });
    const first = raw(server.target).catch(() => "broken");
    await expect.poll(async () => (await raw(server.target, { headers: { "grpc-timeout": "100m" } }))["grpc-status"]).toBe("14");
    await server.close();
    await first;
    servers.splice(0);
  });
});

function certificates(): { path(name: string): string; read(name: string): Buffer } {
  const path = (name: string): string => join(folder, name);
  const openssl = (...args: string[]): Buffer => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority");
  writeFileSync(path("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1");
  for (const name of ["server", "client"]) {
    openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
    openssl(
      "x509",
      "-req",
      "-in",
      `${name}.csr`,
      "-CA",
      "ca.pem",
      "-CAkey",
      "ca.key",
      "-out",
      `${name}.pem`,
      "-days",
      "2",
      "-extfile",
      "san",
    );
  }
  return { path, read: (name) => readFileSync(path(name)) };
}
