import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, SignJWT } from "jose";
import { Provider } from "oidc-provider";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { jwtIssuer, type AdminTokenVerifier, type Grant, type JwtIssuerOptions } from "../../src/kbs/index.ts";
import { matchesPath } from "../../src/policy/index.ts";
import { allows } from "../../src/kbs/tokens/grants.ts";
import { raw, startBench, type Bench } from "./harness.ts";

const roles: Readonly<Record<string, readonly Grant[]>> = {
  admin: [{ actions: ["*"], paths: ["**"] }],
  publisher: [{ actions: ["resource:create"], paths: ["ci/image-key/*"] }],
  reader: [{ actions: ["resource:read", "resource:list"], paths: ["**"] }],
};

const pem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
const ed25519 = generateKeyPairSync("ed25519");
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });

async function sign(
  key: KeyObject,
  alg: string,
  claims: Record<string, unknown>,
  expiresInSeconds: number | "never" = 60,
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const jwt = new SignJWT({ iat: now, ...claims }).setProtectedHeader({ alg, typ: "JWT" });
  return (expiresInSeconds === "never" ? jwt : jwt.setExpirationTime(now + expiresInSeconds)).sign(key);
}

describe("grants", () => {
  it.each([
    ["**", "a/b/c", true],
    ["a/**", "a/b/c", true],
    ["a/**", "a", false],
    ["a/*/c", "a/b/c", true],
    ["a/*/c", "a/b/d/c", false],
    ["a/b/app-*", "a/b/app-1", true],
    ["a/b/app-*", "a/b/xapp-1", false],
    ["a/b/*-key", "a/b/my-key", true],
    ["a/b/*-key", "a/b/my-key2", false],
    ["a/b/x*y*z", "a/b/xyz", true],
    ["a/b/x*xz", "a/b/xz", false],
    ["a/b/c", "a/b/cc", false],
    ["*", "", false],
    ["**", "", true],
  ])("pattern %s on path %j: %s", (pattern, path, expected) => {
    expect(matchesPath(pattern, path)).toBe(expected);
  });

  it("let who may write create, but not read, and who may create neither", () => {
    const write: Grant[] = [{ actions: ["resource:write"], paths: ["a/b/*"] }];
    expect(
      (["resource:create", "resource:confirm", "resource:read", "resource:delete"] as const).map((action) =>
        allows(write, action, "a/b/c"),
      ),
    ).toEqual([true, true, false, false]);
    const create: Grant[] = [{ actions: ["resource:create"], paths: ["a/b/*"] }];
    expect((["resource:write", "resource:confirm", "resource:read"] as const).map((action) => allows(create, action, "a/b/c"))).toEqual([
      false,
      true,
      false,
    ]);
  });
});

describe("tokens of issuers", () => {
  let bench: Bench | undefined;
  const open = async (...issuers: readonly Omit<JwtIssuerOptions, "roles">[]): Promise<string> => {
    const adminVerifiers: AdminTokenVerifier[] = issuers.map((issuer) => jwtIssuer({ roles, ...issuer }));
    bench = await startBench({ adminVerifiers });
    return bench.server.url;
  };
  afterEach(async () => {
    await bench?.close();
    bench = undefined;
  });

  const put = (url: string, token: string, path = "ci/image-key/x") =>
    raw(`${url}/kbs/v0/resource/${path}`, { method: "POST", body: "x".repeat(32), headers: { authorization: `Bearer ${token}` } });
  const statusFor = async (url: string, claims: Record<string, unknown>) =>
    (await put(url, await new SignJWT(claims).setProtectedHeader({ alg: "ES256" }).sign(p256.privateKey))).status;
  const keys = { kind: "pem" as const, pems: [pem(ed25519.publicKey), pem(p256.publicKey), pem(rsa.publicKey)] };

  it("are accepted with EdDSA, ES256, RS256 and PS256, by the key that fits", async () => {
    const url = await open({ name: "static", keys });
    for (const [key, alg] of [
      [ed25519.privateKey, "EdDSA"],
      [p256.privateKey, "ES256"],
      [rsa.privateKey, "RS256"],
      [rsa.privateKey, "PS256"],
    ] as const) {
      expect((await put(url, await sign(key, alg, { role: "admin", sub: "a" }))).status).toBe(200);
    }
  });

  it("are refused with alg none, with HMAC over the public key, without an expiry and under a foreign key", async () => {
    const url = await open({ name: "static", keys });
    const good = await sign(ed25519.privateKey, "EdDSA", { role: "admin" });
    const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${good.split(".")[1]}.`;
    const hmac = await new SignJWT({ role: "admin", exp: 9_999_999_999 })
      .setProtectedHeader({ alg: "HS256" })
      .sign(Buffer.from(pem(rsa.publicKey)));
    const endless = await sign(ed25519.privateKey, "EdDSA", { role: "admin" }, "never");
    const foreign = await sign(generateKeyPairSync("ed25519").privateKey, "EdDSA", { role: "admin" });
    for (const token of [unsigned, hmac, endless, foreign]) expect((await put(url, token)).status).toBe(401);
  });

  it("may be a minute late, not more", async () => {
    const url = await open({ name: "static", keys });
    const at = Math.floor(Date.now() / 1000);
    if (bench !== undefined) bench.clock.now = new Date(at * 1000);
    const late = (seconds: number) => statusFor(url, { role: "admin", exp: at - seconds });
    expect([await late(59), await late(61)]).toEqual([200, 401]);
    const early = (seconds: number) => statusFor(url, { role: "admin", exp: at + 600, nbf: at + seconds });
    expect([await early(59), await early(61)]).toEqual([200, 401]);
  });

  it("have no rights without a role, and those of each role in a list", async () => {
    const url = await open({ name: "static", keys, roleClaim: "realm_access.roles" });
    expect((await put(url, await sign(p256.privateKey, "ES256", {}))).status).toBe(403);
    expect((await put(url, await sign(p256.privateKey, "ES256", { realm_access: { roles: ["reader", "publisher"] } }))).status).toBe(200);
    expect((await put(url, await sign(p256.privateKey, "ES256", { realm_access: { roles: ["constructor", "nobody"] } }))).status).toBe(403);
  });

  it("of Trustee's old clients carry nothing but an expiry", async () => {
    const url = await open({ name: "trustee-0.15", keys: { kind: "pem", pems: [pem(ed25519.publicKey)] }, defaultRoles: ["admin"] });
    expect((await put(url, await sign(ed25519.privateKey, "EdDSA", {}))).status).toBe(200);
  });

  it("must be of their issuer and for us, where that is configured", async () => {
    const url = await open({ name: "idp", keys, issuer: "https://idp.example", audience: "kbs" });
    const claims = { role: "admin", iss: "https://idp.example", aud: ["kbs", "other"] };
    expect((await put(url, await sign(p256.privateKey, "ES256", claims))).status).toBe(200);
    for (const wrong of [
      { ...claims, aud: "other" },
      { ...claims, iss: "https://evil.example" },
      { ...claims, aud: undefined },
    ]) {
      expect((await put(url, await sign(p256.privateKey, "ES256", wrong))).status).toBe(401);
    }
  });

  it("of a CI provider get roles by their claims, matched whole", async () => {
    const url = await open({
      name: "github",
      keys,
      issuer: "https://token.actions.githubusercontent.com",
      audience: "kbs",
      rules: [{ claims: { repository: "org/app", ref: "refs/heads/main" }, roles: ["publisher"] }],
    });
    const claims = {
      iss: "https://token.actions.githubusercontent.com",
      aud: "kbs",
      sub: "repo:org/app",
      repository: "org/app",
      ref: "refs/heads/main",
    };
    expect((await put(url, await sign(rsa.privateKey, "RS256", claims))).status).toBe(200);
    expect((await put(url, await sign(rsa.privateKey, "RS256", claims), "other/image-key/x")).status).toBe(403);
    for (const wrong of [
      { ...claims, repository: "org/app2" },
      { ...claims, repository: "evil/org/app" },
      { ...claims, ref: "refs/heads/main2" },
      { ...claims, ref: undefined },
    ]) {
      expect((await put(url, await sign(rsa.privateKey, "RS256", wrong))).status).toBe(403);
    }
  });

  it("of GitLab get roles by their claims, protected references alone", async () => {
    const url = await open({
      name: "gitlab",
      keys,
      issuer: "https://gitlab.com",
      audience: "kbs",
      rules: [{ claims: { project_path: "group/app", ref_protected: "true" }, roles: ["publisher"] }],
    });
    const claims = {
      iss: "https://gitlab.com",
      aud: "kbs",
      sub: "project_path:group/app:ref_type:branch:ref:main",
      project_path: "group/app",
    };
    const status = async (more: Record<string, unknown>) =>
      (await put(url, await sign(rsa.privateKey, "RS256", { ...claims, ...more }), `ci/image-key/${Math.random()}`)).status;
    expect([await status({ ref_protected: "true" }), await status({ ref_protected: "false" }), await status({})]).toEqual([200, 403, 403]);
    expect(await status({ ref_protected: "true", project_path: "group/app/fork" })).toBe(403);
    expect(await status({ ref_protected: "true", aud: "https://gitlab.com" })).toBe(401);
  });

  it("with Trustee's endpoint rules may use those endpoints, by method where that is said", async () => {
    const url = await open({
      name: "acl",
      keys,
      endpointRules: [
        { role: "image-publisher", allowedEndpoints: "^/kbs/v0/resource/default/image-kek/[^/?]+$" },
        { role: "writer", allowedEndpoints: "^/kbs/v0/resource/(a|b)/.*$", methods: ["POST"] },
      ],
    });
    const publisher = await sign(p256.privateKey, "ES256", { role: "image-publisher" });
    expect((await put(url, publisher, "default/image-kek/1")).status).toBe(200);
    expect((await put(url, publisher, "default/other/1")).status).toBe(403);
    const writer = await sign(p256.privateKey, "ES256", { role: "writer" });
    expect((await put(url, writer, "a/x/1")).status).toBe(200);
    const removal = await raw(`${url}/kbs/v0/resource/a/x/1`, { method: "DELETE", headers: { authorization: `Bearer ${writer}` } });
    expect(removal.status).toBe(403);
  });

  it.each(["/kbs/v0/.*$", "^/kbs/v0/.*", "^/kbs|.*$", "^/kbs/(a|b|.*$", "^/kbs/v0/resource/a$|^/kbs/v0/.*$"])(
    "refuses the endpoint rule %s",
    (allowedEndpoints) => {
      expect(() => jwtIssuer({ name: "x", keys, roles, endpointRules: [{ role: "x", allowedEndpoints }] })).toThrow(
        expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }),
      );
    },
  );

  it("refuses to fetch keys without an audience, or over plain http", () => {
    for (const bad of [
      { keys: { kind: "discovery" as const }, issuer: "https://idp.example" },
      { keys: { kind: "discovery" as const }, audience: "kbs" },
      { keys: { kind: "jwks-url" as const, url: "http://idp.example/jwks" }, audience: "kbs" },
    ]) {
      expect(() => jwtIssuer({ name: "x", roles, ...bad })).toThrow(expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }));
    }
  });
});

describe("a real OpenID provider", () => {
  let http: Server;
  let issuer: string;
  let bench: Bench;
  let jwks: { keys: Record<string, unknown>[] };

  const provider = async (): Promise<void> => {
    const key = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const jwk = { ...(await exportJWK(key.privateKey)), use: "sig", alg: "ES256", kid: `k${Date.now()}${Math.random()}` };
    jwks = { keys: [jwk] };
    const oidc = new Provider(issuer, {
      jwks,
      clients: [
        {
          client_id: "ci",
          client_secret: "a-secret-of-the-test",
          id_token_signed_response_alg: "ES256",
          grant_types: ["client_credentials"],
          redirect_uris: [],
          response_types: [],
        },
      ],
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => "https://kbs.example",
          getResourceServerInfo: () => ({
            scope: "",
            audience: "kbs",
            accessTokenFormat: "jwt",
            accessTokenTTL: 600,
            jwt: { sign: { alg: "ES256" } },
          }),
        },
      },
      extraTokenClaims: () => ({ groups: ["publisher"] }),
    });
    http.removeAllListeners("request");
    const answer = oidc.callback();
    http.on("request", (request, response) => void answer(request, response));
  };

  const token = async (): Promise<string> => {
    const credentials = Buffer.from("ci:a-secret-of-the-test").toString("base64");
    const answer = await raw(`${issuer}/token`, {
      method: "POST",
      body: "grant_type=client_credentials",
      headers: { authorization: `Basic ${credentials}`, "content-type": "application/x-www-form-urlencoded" },
    });
    return String(answer.json["access_token"]);
  };

  beforeAll(async () => {
    http = createServer();
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    await provider();
    bench = await startBench({
      adminVerifiers: [
        jwtIssuer({ name: "oidc", keys: { kind: "discovery" }, issuer, audience: "kbs", roleClaim: "groups", roles, keysCooldownMs: 0 }),
      ],
    });
  });
  afterAll(async () => {
    await bench.close();
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });

  it("gives tokens whose groups are roles", async () => {
    const headers = { authorization: `Bearer ${await token()}` };
    expect((await raw(`${bench.server.url}/kbs/v0/resource/ci/image-key/a`, { method: "POST", body: "x", headers })).status).toBe(200);
    expect((await raw(`${bench.server.url}/kbs/v0/resource/prod/image-key/a`, { method: "POST", body: "x", headers })).status).toBe(403);
  });

  it("gives tokens to others, too, which are good for nothing here", async () => {
    const other = await startBench({
      adminVerifiers: [jwtIssuer({ name: "oidc", keys: { kind: "discovery" }, issuer, audience: "another", roleClaim: "groups", roles })],
    });
    const headers = { authorization: `Bearer ${await token()}` };
    const answer = await raw(`${other.server.url}/kbs/v0/resource/ci/image-key/a`, { method: "POST", body: "x", headers });
    expect([answer.status, answer.json["code"]]).toEqual([401, "admin-token-invalid"]);
    await other.close();
  });

  it("may rotate its keys", async () => {
    const before = await token();
    await provider();
    const after = await token();
    const put = async (bearer: string) =>
      (
        await raw(`${bench.server.url}/kbs/v0/resource/ci/image-key/${Math.random()}`, {
          method: "POST",
          body: "x",
          headers: { authorization: `Bearer ${bearer}` },
        })
      ).status;
    expect([await put(after), await put(before)]).toEqual([200, 401]);
  });

  it("may give its keys as a key set and as nothing else, as a Kubernetes API server does", async () => {
    const cluster = createServer((request, response) => {
      const taken = (request.headers.accept ?? "").split(/, */).includes("application/jwk-set+json");
      response.writeHead(taken ? 200 : 406, { "content-type": "application/jwk-set+json" });
      response.end(taken ? JSON.stringify({ keys: [p256.publicKey.export({ format: "jwk" })] }) : "406: Not Acceptable");
    });
    await new Promise<void>((resolve) => cluster.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(cluster.address() as AddressInfo).port}/openid/v1/jwks`;
    const rules = [{ claims: { sub: "system:serviceaccount:ci:sealer" }, roles: ["publisher"] }];
    const other = await startBench({
      adminVerifiers: [jwtIssuer({ name: "cluster", keys: { kind: "jwks-url", url }, issuer: "https://c", audience: "kbs", roles, rules })],
    });
    const bearer = await sign(p256.privateKey, "ES256", { iss: "https://c", aud: "kbs", sub: "system:serviceaccount:ci:sealer" });
    const headers = { authorization: `Bearer ${bearer}` };
    expect((await raw(`${other.server.url}/kbs/v0/resource/ci/image-key/a`, { method: "POST", body: "x", headers })).status).toBe(200);
    await other.close();
    cluster.closeAllConnections();
    await new Promise((resolve) => cluster.close(resolve));
  });

  it("that is away makes its tokens unanswerable, not wrong", async () => {
    const away = createServer();
    await new Promise<void>((resolve) => away.listen(0, "127.0.0.1", resolve));
    const gone = `http://127.0.0.1:${(away.address() as AddressInfo).port}`;
    await new Promise((resolve) => away.close(resolve));
    const other = await startBench({
      adminVerifiers: [jwtIssuer({ name: "gone", keys: { kind: "discovery" }, issuer: gone, audience: "kbs", roles })],
    });
    const bearer = await sign(p256.privateKey, "ES256", { iss: gone, aud: "kbs", role: "admin" });
    const answer = await raw(`${other.server.url}/kbs/v0/resource/a/b/c`, {
      method: "POST",
      body: "x",
      headers: { authorization: `Bearer ${bearer}` },
    });
    expect([answer.status, answer.json["code"]]).toEqual([503, "storage-unavailable"]);
    await other.close();
  });
});

describe("an administrator", () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = await startBench();
  });
  afterEach(() => bench.close());

  it("stores a Trustee policy only with an engine for it", async () => {
    await expect(bench.admin.policies.put({ id: "resource-policy", language: "rego", text: "package policy" })).rejects.toMatchObject({
      code: "ERR_KBS_REQUEST_REFUSED",
    });
  });

  it("registers, lists and deletes reference values, which expire", async () => {
    await bench.admin.references.set({ a: ["1"], b: 2 });
    await bench.admin.references.set({ c: true }, { expiresAt: new Date(bench.clock.now.getTime() + 1000) });
    expect((await bench.admin.references.list()).map(({ name, value }) => [name, value])).toEqual([
      ["a", ["1"]],
      ["b", 2],
      ["c", true],
    ]);
    expect(await bench.admin.references.get("c")).toBe(true);
    bench.clock.now = new Date(bench.clock.now.getTime() + 2000);
    expect(await bench.admin.references.get("c")).toBeUndefined();
    await bench.admin.references.delete("a");
    expect(await bench.admin.references.get("a")).toBeUndefined();
    await expect(bench.admin.references.delete("a")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
    await expect(bench.admin.references.set({ "../x": 1 })).rejects.toMatchObject({ code: "ERR_KBS_REQUEST_REFUSED" });
  });

  it("issues tokens with fewer rights, which hold", async () => {
    const token = await bench.admin.system.issueToken({
      subject: "ci",
      role: "ci",
      grants: [{ actions: ["resource:list"], paths: ["team-a/**"] }],
    });
    await bench.admin.putResource("kbs:///team-a/x/1", Buffer.from("1"));
    await bench.admin.putResource("kbs:///team-b/x/1", Buffer.from("1"));
    const answer = await raw(`${bench.server.url}/api/v1/resources`, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.json).toEqual({ resources: ["team-a/x/1"] });
    const metrics = await raw(`${bench.server.url}/metrics`, { headers: { authorization: `Bearer ${token}` } });
    expect(metrics.status).toBe(403);
    const more = await raw(`${bench.server.url}/api/v1/tokens`, {
      method: "POST",
      body: { subject: "x", role: "admin" },
      headers: { authorization: `Bearer ${token}` },
    });
    expect(more.status).toBe(403);
  });

  it("lets nobody govern resources beyond their right, nor replace or remove a policy that does", async () => {
    const own = await startBench({
      policyEngines: [
        { language: "json", compileRelease: (_text, id) => ({ id, digest: "sha256:x", evaluate: () => ({ allow: true, reasons: [] }) }) },
      ],
    });
    const token = await own.admin.system.issueToken({
      subject: "team-a",
      role: "team",
      grants: [{ actions: ["policy:write"], paths: ["team-a-*", "team-a/**"] }],
    });
    await own.admin.policies.put({ id: "team-a-wide", language: "json", text: "{}", resources: "**" });
    const ask = async (method: string, id: string, resources?: string) =>
      (
        await raw(`${own.server.url}/api/v1/policies/${id}`, {
          method,
          ...(method === "PUT" ? { body: { language: "json", policy: "{}", ...(resources === undefined ? {} : { resources }) } } : {}),
          headers: { authorization: `Bearer ${token}` },
        })
      ).status;
    expect(await ask("PUT", "team-a-keys", "team-a/image-key/*")).toBe(200);
    for (const resources of [undefined, "**", "team-b/image-key/1", "*/image-key/1"])
      expect([resources, await ask("PUT", "team-a-keys", resources)]).toEqual([resources, 403]);
    expect(await ask("PUT", "team-a-wide", "team-a/**")).toBe(403);
    expect(await ask("DELETE", "team-a-wide")).toBe(403);
    expect(await ask("DELETE", "team-a-keys")).toBe(200);
    await own.close();
  });

  it("issues no token that may do what its issuer may not", async () => {
    const limited = await bench.admin.system.issueToken({
      subject: "helpdesk",
      role: "helpdesk",
      grants: [
        { actions: ["token:create"], paths: ["**"] },
        { actions: ["resource:write"], paths: ["team-a/**", "team-b/*/shared"] },
      ],
    });
    const ask = async (body: Readonly<Record<string, unknown>>) =>
      (
        await raw(`${bench.server.url}/api/v1/tokens`, {
          method: "POST",
          body: { subject: "x", ...body },
          headers: { authorization: `Bearer ${limited}` },
        })
      ).status;
    expect(await ask({ role: "admin" })).toBe(403);
    for (const [action, path] of [
      ["*", "team-a/**"],
      ["resource:read", "team-a/b/c"],
      ["resource:write", "**"],
      ["resource:write", "team-b/**"],
      ["resource:write", "team-*/**"],
      ["resource:write", "team-b/*/*"],
    ]) {
      expect([action, path, await ask({ role: "r", grants: [{ actions: [action], paths: [path] }] })]).toEqual([action, path, 403]);
    }
    for (const path of ["team-a/**", "team-a/b/**", "team-a/b/*", "team-a/b/c", "team-b/*/shared", "team-b/x/shared"]) {
      expect([path, await ask({ role: "r", grants: [{ actions: ["resource:create"], paths: [path] }] })]).toEqual([path, 200]);
    }
  });

  it("reads metrics under Trustee's names and ours", async () => {
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("1"));
    await bench.guest.fetchResource("kbs:///a/b/c");
    await bench.guest.fetchResource("kbs:///a/b/typo").catch(() => undefined);
    const text = await bench.admin.system.metrics();
    expect(text).toMatch(/^kbs_attestation_successes_total\{tee_type="sample"\} 1$/m);
    expect(text).toMatch(/^kbs_resource_reads_total 1$/m);
    expect(text).toMatch(/^tee_attestation_duration_seconds_count\{tee="sample"\} 1$/m);
    expect(text).toMatch(/^ociseal_key_access_refused_total\{reason="resource-not-found"\} 1$/m);
    expect(text).toMatch(/^kbs_http_response_size_bytes_count\{route="resource"\} 3$/m);
    expect(text).not.toContain("a/b/c");
  });

  it("has no secret in any answer of the key interface", async () => {
    const { key } = await bench.admin.registerKey("kbs:///a/b/k");
    const headers = { authorization: `Bearer ${bench.server.adminToken}` };
    for (const path of ["/api/v1/keys", "/api/v1/keys/a/b/k", "/api/v1/keys/a/b/k/versions", "/api/v1/system", "/metrics"]) {
      const { text } = await raw(`${bench.server.url}${path}`, { headers });
      expect(text).not.toContain(key.toString("base64").slice(0, 20));
      expect(text).not.toContain(key.toString("base64url").slice(0, 20));
    }
  });
});
