import { connect, type Socket } from "node:net";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clientAddressBehind } from "../../src/kbs/server/client-address.ts";
import { generateRootKey, openMemoryStore } from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { Nonces } from "../../src/kbs/server/nonces.ts";
import { Sessions } from "../../src/kbs/server/sessions.ts";
import { RateLimiter } from "../../src/kbs/server/rate-limit.ts";
import { auth, raw, startBench, type Bench, type RawAnswer } from "./harness.ts";

let bench: Bench;
let url: string;
beforeAll(async () => {
  bench = await startBench({
    limits: {
      headTimeoutMs: 300,
      requestTimeoutMs: 600,
      maxBodyBytes: 64 << 10,
      maxHeadBytes: 16 << 10,
      addressRate: { perSecond: 100_000, burst: 100_000 },
      subjectRate: { perSecond: 100_000, burst: 100_000 },
    },
  });
  url = bench.server.url;
});
afterAll(() => bench.close());

/** Sends bytes over a connection of its own and waits until the service ends it. */
function talk(write: (socket: Socket) => void): Promise<string> {
  const { port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), "127.0.0.1", () => write(socket));
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("close", () => resolve(Buffer.concat(chunks).toString("utf8")));
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? undefined : reject(error),
    );
  });
}

describe("limits", () => {
  it("refuse a body that says it is too large, and one that turns out to be", async () => {
    const declared = await talk((socket) => socket.write("POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"));
    expect(declared).toMatch(/^HTTP\/1\.1 413 [\s\S]*"code":"body-too-large"/);
    const chunk = `8000\r\n${"x".repeat(0x8000)}\r\n`;
    const chunked = await talk((socket) =>
      socket.write(`POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(4)}`),
    );
    expect(chunked).toMatch(/^HTTP\/1\.1 413 /);
  });

  it("refuse a head that is too large, as JSON", async () => {
    const answer = await talk((socket) => socket.write(`GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: ${"x".repeat(20_000)}\r\n\r\n`));
    expect(answer).toMatch(/^HTTP\/1\.1 431 [\s\S]*"code":"head-too-large"/);
  });

  it("end a connection that sends its head or body too slowly", async () => {
    expect(await talk((socket) => socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "))).toMatch(
      /^HTTP\/1\.1 408 [\s\S]*"code":"request-timeout"/,
    );
    await talk((socket) => socket.write("POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"));
    expect((await raw(`${url}/healthz`)).status).toBe(200);
  });

  it("refuse what is not HTTP, and smuggled requests", async () => {
    for (const bytes of [
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      "GET / HTTP/9.9\r\n\r\n",
      "POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
    ]) {
      expect(await talk((socket) => socket.write(Buffer.from(bytes, "latin1")))).toMatch(
        /^HTTP\/1\.1 400 [\s\S]*"code":"request-malformed"/,
      );
    }
  });

  it("refuse deep and repetitive JSON", async () => {
    for (const body of [
      `${"[".repeat(10_000)}${"]".repeat(10_000)}`,
      `{"version":"0.4.0","tee":"sample","extra-params":${'{"a":'.repeat(100)}1${"}".repeat(100)}}`,
      '{"a":1,"\\u0061":2}',
    ]) {
      expect((await raw(`${url}/kbs/v0/auth`, { body })).json["code"]).toBe("request-malformed");
    }
  });

  it("hold back an address and a token that ask too often, and say for how long", async () => {
    const strict = await startBench({ limits: { addressRate: { perSecond: 1, burst: 5 } } });
    const answers: RawAnswer[] = [];
    for (let i = 0; i < 7; i += 1) answers.push(await auth(strict.server.url));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 429, 429]);
    expect(answers.at(-1)).toMatchObject({ json: { code: "rate-limited" }, headers: { "retry-after": "1" } });
    await strict.close();
  });

  it("open ten thousand sessions without remembering one", async () => {
    const keyring = await Keyring.open(openMemoryStore(), [generateRootKey()]);
    const options = { nonces: new Nonces(keyring), lifetimeMs: 60_000 };
    const sessions = new Sessions(keyring, options);
    const now = new Date();
    const request = { version: "0.4.0", tee: "sample" } as const;
    const cookies = Array.from({ length: 10_000 }, () => sessions.cookieOf(sessions.begin(request, now), "plain"));
    // Another process with the same keys knows them all: nothing was kept here.
    const other = new Sessions(keyring, options);
    const opened = cookies.map((cookie) => other.open(/=([^;]+)/.exec(cookie)?.[1] ?? "", now));
    expect(opened.every((session) => typeof session === "object" && session.token === undefined)).toBe(true);
    expect(new Set(opened.map((session) => (typeof session === "object" ? session.nonce : ""))).size).toBe(10_000);
  });

  it("survive a client that goes away in the middle of everything", async () => {
    for (const bytes of [
      "POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
      "POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    ]) {
      for (let i = 0; i < 20; i += 1) await talk((socket) => socket.write(bytes, () => socket.resetAndDestroy()));
    }
    expect((await raw(`${url}/healthz`)).status).toBe(200);
  });
});

describe("a rate limiter", () => {
  it("never allows more than burst plus rate times time", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2000 }), { minLength: 1, maxLength: 100 }), (gaps) => {
        const limiter = new RateLimiter({ perSecond: 10, burst: 5 });
        let now = 0;
        let taken = 0;
        for (const gap of gaps) {
          now += gap;
          if (limiter.take("a", now) === 0) taken += 1;
        }
        expect(taken).toBeLessThanOrEqual(5 + (now * 10) / 1000 + 1);
      }),
    );
  });
});

describe("the address of a client", () => {
  it.each([
    ["10.0.0.1", "1.2.3.4", "1.2.3.4"],
    ["10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"],
    ["10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.7", "1.2.3.4"],
    ["8.8.8.8", "1.2.3.4", "8.8.8.8"],
    ["::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"],
    ["10.0.0.1", undefined, "10.0.0.1"],
    ["10.0.0.1", "nonsense", "10.0.0.1"],
    ["fd00::1", "2001:db8::5", "2001:db8::5"],
  ])("of peer %s with X-Forwarded-For %j is %s", (peer, forwarded, expected) => {
    expect(clientAddressBehind(["10.0.0.0/8", "fd00::1"])(peer, forwarded)).toBe(expected);
  });
});

describe("shutting down", () => {
  it("finishes the request under way and takes no new one", async () => {
    let release: (() => void) | undefined;
    const started = new Promise<void>((resolveStarted) => {
      release = resolveStarted;
    });
    let finish: (() => void) | undefined;
    const slow = await startBench({
      routes: [
        {
          method: "GET",
          pattern: "/slow",
          name: "slow",
          handle: async () => {
            release?.();
            await new Promise<void>((resolve) => {
              finish = resolve;
            });
            return { status: 200, body: "done" };
          },
        },
      ],
    });
    const answer = raw(`${slow.server.url}/slow`);
    await started;
    const closing = slow.server.close();
    finish?.();
    expect((await answer).text).toBe("done");
    await closing;
    await expect(raw(`${slow.server.url}/healthz`)).rejects.toThrow("ECONNREFUSED");
    await slow.guest.close();
    await slow.admin.close();
  });
});

describe("any request at all", () => {
  it("of any path and method is answered", async () => {
    const path = fc.array(fc.constantFrom("kbs", "v0", "api", "v1", "resource", "..", ".", "", "%2e%2e", "%", "a", "keys", "policies"), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"), path, async (method, segments) => {
        const answer = await raw(`${url}/${segments.join("/")}`, { method });
        expect(answer.status).toBeLessThan(500);
      }),
      { numRuns: 40 },
    );
  });
});
