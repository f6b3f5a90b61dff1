import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { checkIdentityToken, loadSigningConfig, tokenFromDeviceFlow, tokenFromGithub } from "../../src/signing/index.ts";
import { identityToken } from "./sigstore-services.ts";

const token = identityToken({ email: "me@example.test", email_verified: true });

interface Issuer {
  /** Members of the discovery document instead of the right ones. */
  discovery: Record<string, unknown>;
  /** What the token endpoint answers, one after another. */
  answers: (Record<string, unknown> | string)[];
  forms: URLSearchParams[];
}
let issuer: Issuer;
let server: Server;
let url: string;

/** An issuer with a device flow (RFC 8628) that checks the proof of RFC 7636, and GitHub's endpoint for tokens of jobs. */
beforeAll(async () => {
  server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      const form = new URLSearchParams(text);
      if (request.method === "POST") issuer.forms.push(form);
      const answer = (body: unknown, status = 200): void => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(typeof body === "string" ? body : JSON.stringify(body));
      };
      const path = (request.url ?? "").split("?")[0];
      if (path === "/auth/.well-known/openid-configuration") {
        answer({ device_authorization_endpoint: `${url}/device`, token_endpoint: `${url}/token`, ...issuer.discovery });
      } else if (path === "/device") {
        answer({ device_code: "device-secret", user_code: "ABCD-EFGH", verification_uri: `${url}/enter`, interval: 0, expires_in: 30 });
      } else if (path === "/token") {
        const proof = createHash("sha256")
          .update(form.get("code_verifier") ?? "")
          .digest("base64url");
        const isProved = form.get("device_code") === "device-secret" && issuer.forms[0]?.get("code_challenge") === proof;
        const next = isProved ? (issuer.answers.shift() ?? { error: "expired_token" }) : { error: "invalid_grant" };
        answer(next, typeof next === "string" || "id_token" in next ? 200 : 400);
      } else if (request.headers.authorization === "Bearer job-secret") {
        answer(request.url?.includes("audience=sigstore") === true ? { value: token } : {});
      } else {
        answer({ message: "job-secret is wrong" }, 401);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());
beforeEach(() => {
  issuer = { discovery: {}, answers: [], forms: [] };
});

describe("signing in on another device", () => {
  const shown: string[] = [];
  const signIn = (): Promise<string> =>
    tokenFromDeviceFlow({ issuer: `${url}/auth`, clientId: "sigstore", prompt: ({ userCode }) => shown.push(userCode) })({});

  it("waits for the person, and proves that it is who asked", async () => {
    issuer.answers = [{ error: "authorization_pending" }, { id_token: token }];
    expect(await signIn()).toBe(token);
    expect(shown).toContain("ABCD-EFGH");
    expect(issuer.forms[0]?.get("code_challenge_method")).toBe("S256");
    expect(issuer.forms[0]?.has("code_verifier")).toBe(false);
  });

  it.each([
    ["is refused", { answers: [{ error: "access_denied" }] }, "ERR_IDENTITY_TOKEN"],
    ["is answered without end", { answers: [`"${"x".repeat(1 << 20)}"`] }, "ERR_SIGNING_SERVICE"],
    ["would send the code in the clear", { discovery: { token_endpoint: "http://issuer.example/token" } }, "ERR_IDENTITY_TOKEN"],
    ["is not offered", { discovery: { device_authorization_endpoint: undefined } }, "ERR_IDENTITY_TOKEN"],
  ])("that %s ends in an error without the code", async (_, change: Partial<Issuer>, code) => {
    Object.assign(issuer, change);
    const failing = signIn();
    await expect(failing).rejects.toMatchObject({ code });
    await expect(failing).rejects.not.toMatchObject({ message: expect.stringContaining("device-secret") });
  });

  it("happens where the signing config says", () => {
    const config = {
      mediaType: "application/vnd.dev.sigstore.signingconfig.v0.2+json",
      oidcUrls: [
        { url: "https://old.example/auth/", majorApiVersion: 1, validFor: { start: "2020-01-01T00:00:00Z", end: "2021-01-01T00:00:00Z" } },
        { url: "https://new.example/auth/", majorApiVersion: 1, validFor: { start: "2021-01-01T00:00:00Z" } },
      ],
    };
    const services = loadSigningConfig({ bytes: JSON.stringify(config), source: "sc.json", now: new Date("2026-01-01") });
    expect(services.issuerUrl).toBe("https://new.example/auth");
  });
});

describe("the token of a GitHub job", () => {
  it("is for sigstore", async () => {
    expect(await tokenFromGithub({ requestUrl: `${url}/github?a=b`, requestToken: "job-secret" })({})).toBe(token);
  });

  it("that is refused ends in an error without the secret, also where GitHub repeats it", async () => {
    const failing = tokenFromGithub({ requestUrl: `${url}/github`, requestToken: "job-secret-of-another" })({});
    await expect(failing).rejects.toMatchObject({ code: "ERR_IDENTITY_TOKEN" });
    await expect(failing).rejects.not.toMatchObject({ message: expect.stringContaining("job-secret") });
  });
});

describe("an identity token", () => {
  it.each([
    ["that is no token", "garbage"],
    ["whose claims are no JSON", "a.!!!.c"],
    ["that has expired", identityToken({ sub: "x", exp: 1 })],
  ])("%s is not sent to anybody, nor repeated", (_, text) => {
    const refused = (): string => checkIdentityToken(text, new Date());
    expect(refused).toThrow(expect.objectContaining({ code: "ERR_IDENTITY_TOKEN" }));
    expect(refused).not.toThrow(expect.objectContaining({ message: expect.stringContaining(text) }));
  });
});
