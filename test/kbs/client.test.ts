import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { sampleAttester } from "../../src/attestation/index.ts";
import { connectKbs, connectKbsAdmin, parseKeyTarget, parseResourceUri, type KbsAdmin, type KbsClient } from "../../src/kbs/index.ts";
import { primaryReportData } from "../../src/kbs/protocol/runtime-data.ts";
import { sealResponse } from "../../src/kbs/protocol/response-jwe.ts";
import type { TeePublicKey } from "../../src/kbs/protocol/tee-key.ts";
import { newTestKey } from "./harness.ts";

interface Turn {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body: Record<string, unknown>;
  readonly headers: IncomingMessage["headers"];
}

/** A service that answers as it is told. */
class Puppet {
  readonly asked: Asked[] = [];
  url = "";
  #server: Server | undefined;
  readonly #answer: (asked: Asked, count: number) => Turn | "drop";

  constructor(answer: (asked: Asked, count: number) => Turn | "drop") {
    this.#answer = answer;
  }

  async start(): Promise<this> {
    const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString();
      // By its type: the random bytes of a key may begin with a brace.
      const isJson = request.headers["content-type"]?.startsWith("application/json") === true;
      const body = isJson && text !== "" ? (JSON.parse(text) as Record<string, unknown>) : {};
      const asked = { method: request.method ?? "", path: request.url ?? "", body, headers: request.headers };
      this.asked.push(asked);
      const turn = this.#answer(asked, this.asked.length);
      if (turn === "drop") return void request.socket.destroy();
      response.writeHead(turn.status, turn.headers);
      response.end(typeof turn.body === "string" ? turn.body : JSON.stringify(turn.body ?? {}));
    };
    const server = createServer((request, response) => void serve(request, response));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.#server = server;
    return this;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
  }
}

const problem = (type: string, detail = "no") => ({ type: `https://github.com/confidential-containers/kbs/errors/${type}`, detail });
const challenge: Turn = {
  status: 200,
  body: { nonce: "bm9uY2U=", "extra-params": "" },
  headers: { "set-cookie": "kbs-session-id=0123; Expires=x" },
};

function tokenFor(key: unknown, expiresInSeconds = 300): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + expiresInSeconds;
  const evidence = { runtime_data_claims: { "tee-pubkey": key } };
  return `${part({ alg: "ES256" })}.${part({ exp, submods: { cpu0: { "ear.veraison.annotated-evidence": evidence } } })}.AAAA`;
}

function keyIn(body: Record<string, unknown>): TeePublicKey {
  const runtime = (body["runtime-data"] ?? body) as Record<string, unknown>;
  return runtime["tee-pubkey"] as TeePublicKey;
}

let closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  closing = [];
});

async function play(answer: (asked: Asked, count: number) => Turn | "drop"): Promise<Puppet> {
  const puppet = await new Puppet(answer).start();
  closing.push(() => puppet.stop());
  return puppet;
}

function guestOf(url: string): KbsClient {
  const guest = connectKbs({ url, attester: sampleAttester() });
  closing.push(() => guest.close());
  return guest;
}

function adminOf(url: string, options: Partial<Parameters<typeof connectKbsAdmin>[0]> = {}): KbsAdmin {
  const admin = connectKbsAdmin({ url, token: "t", ...options });
  closing.push(() => admin.close());
  return admin;
}

/** A Trustee-like service that releases one value. */
function trustee(value: Buffer, more: (asked: Asked) => Turn | undefined = () => undefined) {
  let key: TeePublicKey | undefined;
  return (asked: Asked): Turn => {
    const own = more(asked);
    if (own !== undefined) return own;
    if (asked.path === "/kbs/v0/auth") return challenge;
    if (asked.path === "/kbs/v0/attest") {
      key = keyIn(asked.body);
      return { status: 200, body: { token: tokenFor(key) } };
    }
    if (asked.method === "POST") return { status: 200, body: "" };
    return key === undefined ? { status: 401, body: problem("TokenNotFound") } : { status: 200, body: sealResponse(value, key) };
  };
}

describe("a guest", () => {
  it("sends what a stock service expects, with cookie and bearer token, and attests once for many resources", async () => {
    const service = await play(trustee(Buffer.from("v")));
    const guest = guestOf(service.url);
    expect(
      await Promise.all(
        ["kbs:///a/b/1", "kbs:///a/b/2", "kbs://ignored:1/a/b/3"].map(async (uri) => (await guest.fetchResource(uri)).toString()),
      ),
    ).toEqual(["v", "v", "v"]);
    const [auth, attest, ...gets] = service.asked;
    expect(auth?.body).toEqual({ version: "0.4.0", tee: "sample", "extra-params": { "supported-hash-algorithms": ["sha384"] } });
    expect(attest?.headers.cookie).toBe("kbs-session-id=0123");
    const key = keyIn(attest?.body ?? {});
    expect(Object.keys(key).sort()).toEqual(["alg", "crv", "kty", "x", "y"]);
    const reportData = primaryReportData({ nonce: "bm9uY2U=", teePublicKey: key, additionalEvidence: "" }, "0.4.0").toString("base64");
    expect(attest?.body).toEqual({
      "init-data": null,
      "runtime-data": { nonce: "bm9uY2U=", "tee-pubkey": key },
      "tee-evidence": { primary_evidence: { svn: "1", report_data: reportData }, additional_evidence: "" },
    });
    expect(gets.map(({ path }) => path).sort()).toEqual(["/kbs/v0/resource/a/b/1", "/kbs/v0/resource/a/b/2", "/kbs/v0/resource/a/b/3"]);
    expect(gets[0]?.headers).toMatchObject({ cookie: "kbs-session-id=0123", authorization: expect.stringMatching(/^Bearer ey/) });
  });

  it("falls back to 0.2.0 when a service asks for it, and says so when it asks for something else", async () => {
    const mismatch = (version: string) => ({
      status: 401,
      body: problem(
        "AttestationError",
        `RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect =${version} while the request is 0.4.0`,
      ),
    });
    const old = await play(
      trustee(Buffer.from("old"), ({ path, body }) =>
        path === "/kbs/v0/auth" && body["version"] !== "0.2.0" ? mismatch("0.2.0") : undefined,
      ),
    );
    expect((await guestOf(old.url).fetchResource("kbs:///a/b/c")).toString()).toBe("old");
    expect(Object.keys(old.asked[2]?.body ?? {})).toEqual(["tee-pubkey", "tee-evidence"]);
    const older = await play(() => mismatch("0.1.1"));
    await expect(guestOf(older.url).fetchResource("kbs:///a/b/c")).rejects.toMatchObject({
      code: "ERR_KBS_VERSION_UNSUPPORTED",
      category: "attestation",
    });
  });

  it("attests once more when its token is not accepted any more, and then gives up", async () => {
    let first = true;
    const restarted = await play(
      trustee(Buffer.from("v"), ({ method }) => {
        if (method !== "GET" || !first) return undefined;
        first = false;
        return { status: 401, body: problem("TokenVerifierError") };
      }),
    );
    expect((await guestOf(restarted.url).fetchResource("kbs:///a/b/c")).toString()).toBe("v");
    const stubborn = await play(
      trustee(Buffer.from("v"), ({ method }) =>
        method === "GET" ? { status: 401, body: problem("TokenVerifierError", "expired") } : undefined,
      ),
    );
    await expect(guestOf(stubborn.url).fetchResource("kbs:///a/b/c")).rejects.toMatchObject({ code: "ERR_KBS_ATTESTATION_REFUSED" });
    expect(stubborn.asked.filter(({ method }) => method === "GET")).toHaveLength(2);
  });

  it.each([
    ["PolicyDeny", 401, "ERR_KBS_RELEASE_DENIED"],
    ["PluginInternalError", 401, "ERR_KBS_NOT_FOUND"],
    ["PluginNotFound", 404, "ERR_KBS_NOT_FOUND"],
    ["PolicyDeny", 403, "ERR_KBS_RELEASE_DENIED"],
  ])("takes Trustee's %s with %i for what it is, without attesting again", async (type, status, code) => {
    const service = await play(trustee(Buffer.from("v"), ({ method }) => (method === "GET" ? { status, body: problem(type) } : undefined)));
    await expect(guestOf(service.url).fetchResource("kbs:///a/b/c")).rejects.toMatchObject({ code });
    expect(service.asked).toHaveLength(3);
  });

  it("waits as it is told, tries again, and then says that the service is busy", async () => {
    let busy = 2;
    const recovering = await play(
      trustee(Buffer.from("v"), () => (busy-- > 0 ? { status: 503, body: problem("x"), headers: { "retry-after": "0" } } : undefined)),
    );
    expect((await guestOf(recovering.url).fetchResource("kbs:///a/b/c")).toString()).toBe("v");
    const overloaded = await play(() => ({ status: 429, body: problem("x"), headers: { "retry-after": "0" } }));
    await expect(guestOf(overloaded.url).fetchResource("kbs:///a/b/c")).rejects.toMatchObject({
      code: "ERR_KBS_OVERLOADED",
      category: "unavailable",
    });
    expect(overloaded.asked).toHaveLength(4);
  });

  it("survives a broken connection, and names a service that is not there", async () => {
    const flaky = await play((asked, count) => (count === 1 ? "drop" : trusteeOnce(asked)));
    const trusteeOnce = trustee(Buffer.from("v"));
    expect((await guestOf(flaky.url).fetchResource("kbs:///a/b/c")).toString()).toBe("v");
    await expect(guestOf("http://127.0.0.1:1").fetchResource("kbs:///a/b/c")).rejects.toMatchObject({
      code: "ERR_KBS_UNREACHABLE",
      category: "unavailable",
    });
  });

  it("stops when it is told to", async () => {
    const service = await play(() => ({ status: 503, headers: { "retry-after": "9" } }));
    const controller = new AbortController();
    const fetching = guestOf(service.url).fetchResource("kbs:///a/b/c", { signal: controller.signal });
    controller.abort();
    await expect(fetching).rejects.toMatchObject({ code: "ERR_INTERRUPTED", category: "interrupted" });
  });

  it.each<[string, (asked: Asked) => Turn | undefined, string]>([
    [
      "a token for another key",
      ({ path }) => (path.endsWith("/attest") ? { status: 200, body: { token: tokenFor(newTestKey().public) } } : undefined),
      "ERR_KBS_RESPONSE_MALFORMED",
    ],
    [
      "a token that is none",
      ({ path }) => (path.endsWith("/attest") ? { status: 200, body: { token: "x.y" } } : undefined),
      "ERR_KBS_RESPONSE_MALFORMED",
    ],
    ["no token", ({ path }) => (path.endsWith("/attest") ? { status: 200, body: {} } : undefined), "ERR_KBS_RESPONSE_MALFORMED"],
    ["no nonce", ({ path }) => (path.endsWith("/auth") ? { status: 200, body: {} } : undefined), "ERR_KBS_RESPONSE_MALFORMED"],
    ["a page of HTML", () => ({ status: 200, body: "<html>", headers: { "content-type": "text/html" } }), "ERR_KBS_RESPONSE_MALFORMED"],
    ["a redirect", () => ({ status: 302, headers: { location: "http://127.0.0.1:1/" } }), "ERR_KBS_REQUEST_REFUSED"],
    [
      "an answer sealed to another guest",
      ({ method }) => (method === "GET" ? { status: 200, body: sealResponse(Buffer.from("v"), newTestKey().public) } : undefined),
      "ERR_KBS_RESPONSE_UNSEALED",
    ],
    [
      "an answer in the clear",
      ({ method }) => (method === "GET" ? { status: 200, body: "raw key" } : undefined),
      "ERR_KBS_RESPONSE_MALFORMED",
    ],
    [
      "an answer on another curve",
      ({ method }) => (method === "GET" ? { status: 200, body: sealResponse(Buffer.from("v"), newTestKey("P-521").public) } : undefined),
      "ERR_KBS_RESPONSE_MALFORMED",
    ],
    [
      "a hash that was not offered",
      ({ path }) =>
        path.endsWith("/auth") ? { status: 200, body: { nonce: "AAAA", "extra-params": { "selected-hash-algorithm": "SM3" } } } : undefined,
      "ERR_KBS_VERSION_UNSUPPORTED",
    ],
  ])("refuses %s", async (_what, more, code) => {
    const service = await play(trustee(Buffer.from("v"), more));
    await expect(guestOf(service.url).fetchResource("kbs:///a/b/c")).rejects.toMatchObject({ code });
  });

  it("speaks plain HTTP to loopback only, unless it may", () => {
    for (const url of ["http://kbs.example:8080", "http://10.0.0.1", "http://127.0.0.1.evil.example", "http://localhost.evil.example"]) {
      expect(() => connectKbs({ url, attester: sampleAttester() })).toThrow(
        expect.objectContaining({ code: "ERR_KBS_TRANSPORT_INSECURE" }),
      );
    }
    for (const url of ["ftp://x", "nonsense", "https://user:pass@kbs.example", "https://kbs.example/?x=1"]) {
      expect(() => connectKbs({ url, attester: sampleAttester() })).toThrow(expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }));
    }
    guestOf("http://localhost:8080");
    closing.push(() => connectKbs({ url: "http://kbs.example", attester: sampleAttester(), plainHttp: "allowed" }).close());
  });
});

describe("registering a key", () => {
  it.each([201, 202, 204, 302])("is a failure when the service says %i", async (status) => {
    const service = await play(() => ({ status }));
    await expect(adminOf(service.url).registerKey("kbs:///a/b/c")).rejects.toMatchObject({ code: "ERR_KBS_REQUEST_REFUSED" });
  });

  it.each([
    [{ status: 500, body: problem("x") }, "ERR_KBS_OVERLOADED", "unavailable"],
    [{ status: 200, body: "<html>" }, "ERR_KBS_RESPONSE_MALFORMED", "integrity"],
  ])("tells a service that fails from something that is none", async (turn, code, category) => {
    const service = await play(() => turn);
    await expect(adminOf(service.url).keys.describe("kbs:///a/b/c")).rejects.toMatchObject({
      code,
      category,
      hint: expect.any(String) as unknown,
    });
  });

  it("is refused by the token's rights, and by a service that answers 401 for everything", async () => {
    const service = await play(() => ({ status: 401, body: problem("AdminAuthAccess", "no role") }));
    await expect(adminOf(service.url).registerKey("kbs:///a/b/c")).rejects.toMatchObject({
      code: "ERR_KBS_ADMIN_DENIED",
      message: expect.stringContaining("no role"),
    });
  });

  it("finds a service that holds something else than it was given", async () => {
    const liar = trustee(Buffer.alloc(32, 9), ({ path }) =>
      path.startsWith("/api/") ? { status: 401, body: problem("PluginNotFound") } : undefined,
    );
    const service = await play(liar);
    await expect(adminOf(service.url, { verifyWith: guestOf(service.url) }).registerKey("kbs:///a/b/c")).rejects.toMatchObject({
      code: "ERR_KBS_REGISTRATION_UNPROVED",
      category: "integrity",
    });
    const honest = await play(
      trustee(Buffer.alloc(32, 9), ({ path }) => (path.startsWith("/api/") ? { status: 401, body: problem("PluginNotFound") } : undefined)),
    );
    expect(await adminOf(honest.url, { verifyWith: guestOf(honest.url) }).proveResource("kbs:///a/b/c", Buffer.alloc(32, 9))).toBe(
      "attested",
    );
    expect(await adminOf(honest.url).proveResource("kbs:///a/b/c", Buffer.alloc(32, 9))).toBe("accepted");
  });

  it("finds a service of ours that confirms wrongly or not at all", async () => {
    const mark = { "ociseal-kbs": "1" };
    for (const turn of [
      { status: 200, body: { version: 1, confirmation: Buffer.alloc(32).toString("base64url") }, headers: mark },
      { status: 404, body: problem("x"), headers: mark },
    ]) {
      const service = await play(({ path }) => (path.startsWith("/api/") ? turn : { status: 200, headers: mark }));
      await expect(adminOf(service.url).registerKey("kbs:///a/b/c")).rejects.toMatchObject({ code: "ERR_KBS_REGISTRATION_UNPROVED" });
    }
  });
});

describe("names", () => {
  it.each([
    "kbs:///a/b",
    "kbs:///a/b/c/d",
    "kbs://a/b/c",
    "kbs:///.a/b/c",
    "kbs:///a/../c",
    "kbs:///a/b/c?x=1",
    "kbs:///a/b/c#x",
    "kbs:///a/b/%63",
    "kbs+pkcs11:///a/b/c",
    "https://x/a/b/c",
    "a/b/c",
    "kbs:///a//c",
    `kbs:///a/b/${"x".repeat(201)}`,
  ])("refuse %s", (uri) => {
    expect(() => parseResourceUri(uri)).toThrow(expect.objectContaining({ code: "ERR_KBS_URI_MALFORMED", category: "usage" }));
  });

  it("may leave the tag to whoever registers a key", () => {
    expect(parseKeyTarget("kbs:///default/image-key")).toEqual({ repository: "default", type: "image-key", tag: undefined });
    expect(parseKeyTarget("kbs:///default/image-key/x.v2")).toEqual({ repository: "default", type: "image-key", tag: "x.v2" });
    expect(parseResourceUri("kbs+resource://host:1/a/b/c")).toEqual({ repository: "a", type: "b", tag: "c" });
  });
});
