import { afterEach, describe, expect, it } from "vitest";
import { IssuedTokens } from "../../src/kbs/tokens/issued-tokens.ts";
import { handshake, raw, startBench, type Bench } from "./harness.ts";

describe("the memory of issued tokens", () => {
  it("knows a token by all of its bytes", () => {
    const issued = new IssuedTokens();
    const token = "eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJhIn0.c2lnbmF0dXJl";
    issued.remember(token, 300, 0);
    expect(issued.has(token)).toBe(true);
    for (let i = 0; i < token.length; i += 1) {
      const other = token[i] === "A" ? "B" : "A";
      expect(issued.has(token.slice(0, i) + other + token.slice(i + 1))).toBe(false);
    }
    for (const text of ["", token.slice(1), token.slice(0, -1), `${token}A`, `${token}.`, ` ${token}`])
      expect(issued.has(text)).toBe(false);
  });

  it("forgets what has expired, and the oldest of more than ten thousand", () => {
    const issued = new IssuedTokens();
    issued.remember("first", 300, 0);
    issued.remember("second", 600, 300);
    expect([issued.has("first"), issued.has("second")]).toEqual([false, true]);
    for (let i = 0; i < 10_000; i += 1) issued.remember(`token ${i}`, 900, 301);
    expect([issued.has("second"), issued.has("token 0"), issued.has("token 9999")]).toEqual([false, true, true]);
  });
});

describe("a token that this service issued and remembers", () => {
  let bench: Bench;
  afterEach(() => bench.close());

  const ask = async (token: string): Promise<number> =>
    (await raw(`${bench.server.url}/kbs/v0/resource/a/b/c`, { headers: { authorization: `Bearer ${token}` } })).status;

  it("opens nothing with another signature, header or payload, though it was accepted a moment ago", async () => {
    bench = await startBench();
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("value"));
    const [one, two] = [(await handshake(bench.server.url)).token, (await handshake(bench.server.url)).token];
    expect([await ask(one), await ask(two), await ask(one)]).toEqual([200, 200, 200]);
    const [head = "", body = "", signature = ""] = one.split(".");
    const [, otherBody = "", otherSignature = ""] = two.split(".");
    const claims = JSON.parse(Buffer.from(body, "base64url").toString()) as Record<string, unknown>;
    const longer = Buffer.from(JSON.stringify({ ...claims, exp: Number(claims["exp"]) + 60 })).toString("base64url");
    const none = Buffer.from(JSON.stringify({ ...(JSON.parse(Buffer.from(head, "base64url").toString()) as object), alg: "none" }));
    for (const forged of [
      `${head}.${body}.${otherSignature}`,
      `${head}.${otherBody}.${signature}`,
      `${head}.${longer}.${signature}`,
      `${none.toString("base64url")}.${body}.${signature}`,
      `${none.toString("base64url")}.${body}.`,
      `${head}.${body}.`,
      `${head}.${body}.${signature}=`,
    ]) {
      expect(await ask(forged)).toBe(401);
    }
    expect(await ask(one)).toBe(200);
  });

  it("expires, and ends with the key that signed it, as any other", async () => {
    bench = await startBench();
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("value"));
    const { token } = await handshake(bench.server.url);
    const start = bench.clock.now;
    bench.clock.now = new Date(start.getTime() + 6 * 60_000);
    expect(await ask(token)).toBe(401);
    bench.clock.now = start;
    expect(await ask(token)).toBe(200);
    await bench.admin.system.rotateSigningKey({ former: "revoke" });
    expect(await ask(token)).toBe(401);
  });
});
