import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { parseProviderConfig, providerUnwrapper, providerWrapper, type ProviderConfig } from "../../src/keywrap/index.ts";
import { codeOf } from "./keys.ts";

const folder = mkdtempSync(join(tmpdir(), "ociseal-provider-"));
afterAll(() => rmSync(folder, { recursive: true }));
const optsdata = Buffer.from('{"symkey":"c2VjcmV0"}');

/** A provider that turns bytes round, written as a user would write one. */
const program = join(folder, "provider.mjs");
writeFileSync(
  program,
  `import { readFileSync, writeFileSync } from "node:fs";
const [form, log] = process.argv.slice(2);
const text = readFileSync(0, "utf8");
writeFileSync(log, text);
const { op, keywrapparams, keyunwrapparams } = JSON.parse(text);
const input = Buffer.from(op === "keywrap" ? keywrapparams.optsdata : keyunwrapparams.annotation, "base64").reverse();
const bytes = form === "numbers" ? [...input] : input.toString("base64");
if (form === "fails") { console.error("no token for you"); process.exit(3); }
if (form === "hangs") setInterval(() => {}, 1000);
else if (form === "babbles") console.log("hello");
else if (form === "floods") process.stdout.write("x".repeat(6 << 20));
else if (form === "empty") console.log(JSON.stringify({ keywrapresults: { annotation: "" } }));
else console.log(JSON.stringify(op === "keywrap" ? { keywrapresults: { annotation: bytes } } : { keyunwrapresults: { optsdata: bytes } }));
`,
);
const log = join(folder, "log");
const execConfig = (form: string): ProviderConfig =>
  parseProviderConfig(
    Buffer.from(JSON.stringify({ "key-providers": { mine: { cmd: { path: process.execPath, args: [program, form, log] } } } })),
  );

describe("a provider program", () => {
  it.each(["base64", "numbers"])("wraps and unwraps, answering in %s", async (form) => {
    const config = execConfig(form);
    const [packet] = await providerWrapper({ config, name: "mine", parameters: ["kbs:///default/image-key", "x=y"] }).wrap(optsdata);
    if (packet === undefined) throw new Error("nothing was wrapped");
    expect(packet.scheme).toBe("provider.mine");
    expect(Buffer.from(packet.bytes)).toEqual(Buffer.from(optsdata).reverse());
    // Byte for byte what skopeo 1.18 and 1.22 send.
    expect(readFileSync(log, "utf8")).toBe(
      `{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"mine":["${b64("kbs:///default/image-key")}","${b64("x=y")}"]},"DecryptConfig":{"Parameters":{}}},"optsdata":"${optsdata.toString("base64")}"},"keyunwrapparams":{"dc":null,"annotation":null}}`,
    );
    const unwrapper = providerUnwrapper({ config, name: "mine" });
    expect(await unwrapper.unwrap(packet)).toEqual(optsdata);
    expect(readFileSync(log, "utf8")).toBe(
      `{"op":"keyunwrap","keywrapparams":{"ec":null,"optsdata":null},"keyunwrapparams":{"dc":{"Parameters":{"mine":["${b64("Enabled")}"]}},"annotation":"${Buffer.from(packet.bytes).toString("base64")}"}}`,
    );
    expect([unwrapper.accepts("provider.mine"), unwrapper.accepts("provider.other"), unwrapper.accepts("jwe")]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it.each([
    ["fails", "ERR_KEYWRAP_PROVIDER_FAILED", "no token for you"],
    ["babbles", "ERR_KEYWRAP_PROVIDER_REPLY", "not JSON"],
    ["floods", "ERR_KEYWRAP_PROVIDER_FAILED", "more than"],
    ["empty", "ERR_KEYWRAP_PROVIDER_REPLY", "lacks"],
    ["hangs", "ERR_KEYWRAP_PROVIDER_FAILED", "timeout"],
  ])("that %s is said to", async (form, code, words) => {
    const wrapper = providerWrapper({ config: execConfig(form), name: "mine", timeoutMs: form === "hangs" ? 1500 : 30_000 });
    const attempt = wrapper.wrap(optsdata);
    await expect(attempt).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
    await expect(attempt).rejects.not.toThrow("c2VjcmV0");
  });

  it("that is not there is said not to be", async () => {
    const config = parseProviderConfig(Buffer.from('{"key-providers":{"mine":{"cmd":{"path":"/nowhere/at/all"}}}}'));
    expect(await codeOf(() => providerWrapper({ config, name: "mine" }).wrap(optsdata))).toBe("ERR_KEYWRAP_PROVIDER_FAILED");
  });

  it("ends with the signal's reason", async () => {
    const wrapper = providerWrapper({ config: execConfig("hangs"), name: "mine" });
    const stop = new AbortController();
    const attempt = wrapper.wrap(optsdata, { signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(attempt).rejects.toThrow("enough");
  });
});

function b64(text: string): string {
  return Buffer.from(text).toString("base64");
}

describe("a provider service", () => {
  const closers: (() => void)[] = [];
  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });

  /** Answers every call; the path tells the method. */
  async function serve(
    address: { port: number } | { path: string },
    answer: (stream: ServerHttp2Stream, method: string, body: Buffer) => void,
  ): Promise<number> {
    const server = createServer();
    server.on("stream", (stream, headers) => {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => answer(stream, String(headers[":path"]), Buffer.concat(chunks)));
    });
    closers.push(() => server.close());
    await new Promise<void>((resolve) => server.listen({ ...address, host: "127.0.0.1" }, resolve));
    const bound = server.address();
    return typeof bound === "object" && bound !== null ? bound.port : 0;
  }

  const respond = (stream: ServerHttp2Stream, body: Buffer, status = "0", message = "") => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status, ...(message === "" ? {} : { "grpc-message": message }) }));
    stream.end(body);
  };

  const echo = (stream: ServerHttp2Stream, method: string, body: Buffer) => {
    const json = JSON.parse(body.subarray(body.indexOf("{")).toString()) as {
      keywrapparams: { optsdata: string };
      keyunwrapparams: { annotation: string };
    };
    const bytes = [
      ...Buffer.from(method.endsWith("/WrapKey") ? json.keywrapparams.optsdata : json.keyunwrapparams.annotation, "base64"),
    ].reverse();
    const reply = Buffer.from(
      JSON.stringify(method.endsWith("/WrapKey") ? { keywrapresults: { annotation: bytes } } : { keyunwrapresults: { optsdata: bytes } }),
    );
    const length = [];
    for (let rest = reply.length; ; rest >>= 7) {
      length.push(rest >= 0x80 ? (rest & 0x7f) | 0x80 : rest);
      if (rest < 0x80) break;
    }
    const field = Buffer.concat([Buffer.of(0x0a), Buffer.from(length), reply]);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(field.length, 1);
    respond(stream, Buffer.concat([head, field]));
  };

  const grpcConfig = (grpc: string) => parseProviderConfig(Buffer.from(JSON.stringify({ "key-providers": { mine: { grpc } } })));

  it.each(["host:port", "dns", "http", "tcp", "unix"])("wraps and unwraps at an address of the form %s", async (form) => {
    const path = join(folder, `${form}.sock`);
    const port = await serve(form === "unix" ? { path } : { port: 0 }, echo);
    const target = {
      "host:port": `127.0.0.1:${port}`,
      dns: `dns:///127.0.0.1:${port}`,
      http: `http://127.0.0.1:${port}`,
      tcp: `tcp://127.0.0.1:${port}`,
      unix: `unix://${path}`,
    }[form];
    const config = grpcConfig(target ?? "");
    const [packet] = await providerWrapper({ config, name: "mine" }).wrap(optsdata);
    if (packet === undefined) throw new Error("nothing was wrapped");
    expect(Buffer.from(packet.bytes)).toEqual(Buffer.from(optsdata).reverse());
    expect(await providerUnwrapper({ config, name: "mine" }).unwrap(packet)).toEqual(optsdata);
  });

  it.each<readonly [string, string, (stream: ServerHttp2Stream) => void]>([
    ["that refuses", "ERR_KEYWRAP_PROVIDER_FAILED", (stream) => respond(stream, Buffer.alloc(0), "7", "not%20today")],
    [
      "that refuses without a body",
      "ERR_KEYWRAP_PROVIDER_FAILED",
      (stream) => stream.respond({ ":status": 200, "grpc-status": "12" }, { endStream: true }),
    ],
    ["that is none", "ERR_KEYWRAP_PROVIDER_FAILED", (stream) => stream.respond({ ":status": 404 }, { endStream: true })],
    ["that answers nothing", "ERR_KEYWRAP_PROVIDER_REPLY", (stream) => respond(stream, Buffer.alloc(0))],
    ["that cuts its message", "ERR_KEYWRAP_PROVIDER_REPLY", (stream) => respond(stream, Buffer.of(0, 0, 0, 0, 9, 0x0a, 0x20))],
    ["that answers another message", "ERR_KEYWRAP_PROVIDER_REPLY", (stream) => respond(stream, Buffer.of(0, 0, 0, 0, 2, 0x08, 0x01))],
    ["that hangs up", "ERR_KEYWRAP_PROVIDER_FAILED", (stream) => stream.session?.destroy()],
    ["that stays silent", "ERR_KEYWRAP_PROVIDER_FAILED", () => undefined],
  ])("%s ends in an error", async (name, code, answer) => {
    const port = await serve({ port: 0 }, answer);
    const wrapper = providerWrapper({
      config: grpcConfig(`127.0.0.1:${port}`),
      name: "mine",
      timeoutMs: name.includes("silent") ? 300 : 20_000,
    });
    expect(await codeOf(() => wrapper.wrap(optsdata))).toBe(code);
  });

  it("that is not there ends in an error", async () => {
    const port = await serve({ port: 0 }, echo);
    for (const close of closers.splice(0)) close();
    expect(await codeOf(() => providerWrapper({ config: grpcConfig(`127.0.0.1:${port}`), name: "mine" }).wrap(optsdata))).toBe(
      "ERR_KEYWRAP_PROVIDER_FAILED",
    );
    expect(await codeOf(() => providerWrapper({ config: grpcConfig("nonsense"), name: "mine" }).wrap(optsdata))).toBe(
      "ERR_KEYWRAP_PROVIDER_FAILED",
    );
  });
});

describe("the provider configuration", () => {
  it.each([
    "",
    "[]",
    '{"key-providers":[]}',
    '{"key-providers":{"a":{}}}',
    '{"key-providers":{"a":{"cmd":{}}}}',
    '{"key-providers":{"a":{"path":"/bin/x"}}}',
    '{"key-providers":{"a":{"cmd":{"path":"/bin/x","args":"y"}}}}',
    '{"key-providers":{"a b":{"grpc":"x:1"}}}',
    '{"key-providers":{"a":{"grpc":"x:1","grpc-tls":{"cert-file":5}}}}',
  ])("%s is refused", async (text) => {
    expect(await codeOf(() => parseProviderConfig(Buffer.from(text)))).toBe("ERR_KEYWRAP_PROVIDER_CONFIG");
  });

  it("may hold what other implementations add, and cmd wins over grpc", () => {
    const config = parseProviderConfig(
      Buffer.from(
        '{"key-providers":{"a":{"cmd":{"path":"/x"},"grpc":"h:1","ttrpc":"unix:///y"},"b":{"grpc":"h:1","grpc-tls":{"server-name":"s"}}},"more":1}',
      ),
    );
    expect(config.get("a")).toEqual({ kind: "exec", path: "/x", args: [] });
    expect(config.get("b")).toMatchObject({ kind: "grpc", target: "h:1", tls: { serverName: "s", verification: "certificate" } });
  });

  it("must name the provider asked for", async () => {
    expect(await codeOf(() => providerWrapper({ config: new Map(), name: "absent" }))).toBe("ERR_KEYWRAP_PROVIDER_CONFIG");
  });
});
