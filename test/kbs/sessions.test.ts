import { randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { generateRootKey, openMemoryStore } from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { Nonces } from "../../src/kbs/server/nonces.ts";
import { Sessions } from "../../src/kbs/server/sessions.ts";
import { attest, attestBody, auth, handshake, newTestKey, startBench } from "./harness.ts";

const request = { version: "0.4.0", tee: "tdx" } as const;
const now = new Date("2026-01-02T03:04:05Z");
const part = (size: number) => randomBytes(size).toString("base64url");
const valueOf = (cookie: string): string => /=([^;]+)/.exec(cookie)?.[1] ?? "";

async function twoReplicas(): Promise<readonly [Sessions, Sessions]> {
  const keyring = await Keyring.open(openMemoryStore(), [generateRootKey()]);
  const options = { nonces: new Nonces(keyring), lifetimeMs: 60_000 };
  return [new Sessions(keyring, options), new Sessions(keyring, options)];
}

describe("a session in its cookie", () => {
  it("carries a token of any size to another replica, bit for bit, and is hardly longer than it", async () => {
    const [here, there] = await twoReplicas();
    for (const size of [100, 1500, 4000, 8000]) {
      const token = `${part(size / 4)}.${part(size)}.${part(64)}`;
      const cookie = here.cookieOf(here.attest(here.begin(request, now), token, now), "tls");
      expect(there.open(valueOf(cookie), now)).toMatchObject({ request, token });
      expect(valueOf(cookie).length).toBeLessThan(token.length * 1.5 + 400);
    }
  });

  it("carries texts that are no compact JWS, or not in its only spelling, as they are", async () => {
    const [here, there] = await twoReplicas();
    for (const token of ["", ".", "a", "a.b.c", "YQ==.Yg.Yw", "YR.Yg.Yw", "Y Q.Yg", "ä.ö.ü", "one.two.three.four", "x".repeat(20_000)]) {
      const cookie = here.cookieOf(here.attest(here.begin(request, now), token, now), "plain");
      expect(there.open(valueOf(cookie), now)).toMatchObject({ token });
    }
  });

  it("stays here when it is too long for the head of a request", async () => {
    const [here, there] = await twoReplicas();
    const token = `${part(10_000)}.${part(30_000)}.${part(64)}`;
    const cookie = valueOf(here.cookieOf(here.attest(here.begin(request, now), token, now), "plain"));
    expect(there.open(cookie, now)).toMatchObject({ token: undefined });
    expect(here.open(cookie, now)).toMatchObject({ token });
  });

  it("keeps the last tokens, and of fifty thousand sessions that their nonces are used up", async () => {
    const [here, there] = await twoReplicas();
    const token = `${part(300)}.${part(1200)}.${part(64)}`;
    const begun = Array.from({ length: 6000 }, () => here.begin(request, now));
    const cookies = [begun[0], begun[5999]].map((session) => valueOf(here.cookieOf(session ?? here.begin(request, now), "plain")));
    for (const session of begun) here.attest(session, token, now);
    const opened = cookies.map((cookie) => here.open(cookie, now));
    expect(opened).toMatchObject([{ token: undefined }, { token }]);
    for (const session of opened) expect(typeof session === "object" && here.isAttested(session)).toBe(true);
    // Another replica cannot know, and is told by the cookie that the guest got with its token.
    const elsewhere = there.open(cookies[0] ?? "", now);
    expect(typeof elsewhere === "object" && there.isAttested(elsewhere)).toBe(false);
    for (let i = 0; i < 50_000; i += 1) here.attest({ ...here.begin(request, now), id: String(i) }, "t", now);
    expect(opened.map((session) => typeof session === "object" && here.isAttested({ ...session, token: undefined }))).toEqual([
      false,
      false,
    ]);
  });

  it("opens with no byte changed, cut or added", async () => {
    const [here, there] = await twoReplicas();
    const token = `${part(20)}.${part(40)}.${part(64)}`;
    const bytes = Buffer.from(valueOf(here.cookieOf(here.attest(here.begin(request, now), token, now), "plain")), "base64url");
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const other = Buffer.from(bytes);
        other[at] = (other[at] ?? 0) ^ change;
        expect(there.open(other.toString("base64url"), now)).toBe("malformed");
        expect(there.open(bytes.subarray(0, at).toString("base64url"), now)).toBe("malformed");
      }),
    );
    expect(there.open(Buffer.concat([bytes, Buffer.of(0)]).toString("base64url"), now)).toBe("malformed");
  });
});

describe("a service that many guests ask", () => {
  it("refuses evidence for a nonce that is used up, when the token of its session is not kept any more", async () => {
    // Two such tokens are more than is kept.
    const bench = await startBench({ tokenIssuer: "i".repeat(4 << 20) });
    const { url } = bench.server;
    const challenge = await auth(url);
    const body = attestBody(String(challenge.json["nonce"]), newTestKey().public);
    const first = await attest(url, challenge.cookie, body);
    expect(first.status).toBe(200);
    expect((await attest(url, challenge.cookie, body)).json["token"] === first.json["token"]).toBe(true);
    await handshake(url);
    const again = await attest(url, challenge.cookie, body);
    expect([again.status, again.json["code"]]).toEqual([401, "session-expired"]);
    expect(again.json["detail"]).toContain("attested already");
    await bench.close();
  });
});

describe("two pieces of evidence for one nonce at the same time", () => {
  it("are not both judged, and the one that is not may begin anew", async () => {
    const [here] = await twoReplicas();
    const session = here.begin(request, now);
    let finish = (): void => undefined;
    const first = here.judging(session, () => new Promise<string>((resolve) => (finish = () => resolve("first"))));
    expect(await here.judging(session, async () => "second")).toBe("taken");
    expect(await here.judging(here.begin(request, now), async () => "another session")).toBe("another session");
    finish();
    expect(await first).toBe("first");
    await expect(here.judging(session, () => Promise.reject(new RangeError("bad evidence")))).rejects.toThrow("bad evidence");
    expect(await here.judging(session, async () => "after a failure")).toBe("after a failure");
  });

  it("get one token between them", async () => {
    const bench = await startBench();
    const { url } = bench.server;
    const challenge = await auth(url);
    const bodies = Array.from({ length: 8 }, () => attestBody(String(challenge.json["nonce"]), newTestKey().public));
    const answers = await Promise.all(bodies.map((body) => attest(url, challenge.cookie, body)));
    const tokens = answers.filter(({ status }) => status === 200).map(({ json }) => json["token"]);
    expect(new Set(tokens).size).toBe(1);
    const refused = answers.filter(({ status }) => status !== 200).map(({ status, json }) => `${status} ${String(json["code"])}`);
    expect(new Set([...refused, "401 session-expired"])).toEqual(new Set(["401 session-expired"]));
    await bench.close();
  });
});

describe("nonces", () => {
  it("are known as ours where another service's tokens are taken, and random throughout where they are not", async () => {
    const keyring = await Keyring.open(openMemoryStore(), [generateRootKey()]);
    const [marked, plain] = [new Nonces(keyring, "recognised"), new Nonces(keyring, "unrecognised")];
    for (const nonces of [marked, plain]) {
      const made = Array.from({ length: 100 }, () => nonces.make());
      expect(new Set(made).size).toBe(100);
      expect(made.every((nonce) => Buffer.from(nonce, "base64").length === 32)).toBe(true);
      expect(new Set(made.map((nonce) => marked.isOurs(nonce)))).toEqual(new Set([nonces === marked]));
    }
  });
});
