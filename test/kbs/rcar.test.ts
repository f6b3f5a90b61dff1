import { createPublicKey, X509Certificate } from "node:crypto";
import { flattenedDecrypt, importJWK, jwtVerify, type JWK } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectKbs, generateRootKey, openMemoryStore } from "../../src/kbs/index.ts";
import { sampleAttester } from "../../src/attestation/index.ts";
import { deviceReportData } from "../../src/kbs/protocol/runtime-data.ts";
import { attest, attestBody, auth, handshake, newTestKey, payloadOf, raw, startBench, type Bench } from "./harness.ts";

let bench: Bench;
let url: string;

beforeAll(async () => {
  bench = await startBench();
  url = bench.server.url;
  await bench.admin.putResource("kbs:///default/key/1", Buffer.from("a secret"));
});

afterAll(() => bench.close());

const problem = (type: string) => `https://github.com/confidential-containers/kbs/errors/${type}`;

describe("POST /auth", () => {
  it.each(["0.4.0", "0.2.0"])("challenges a guest of protocol %s", async (version) => {
    const answer = await auth(url, version);
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual({ nonce: expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/), "extra-params": "" });
    expect(answer.headers["content-type"]).toBe("application/json");
    expect(answer.headers["set-cookie"]).toMatch(/^kbs-session-id=[\w-]+; Expires=[^;]+ GMT; Path=\/kbs\/v0; HttpOnly; SameSite=Strict$/);
  });

  it.each(["0.1.0", "0.1.1", "0.3.0", "0.5.0", "1.0.0", ""])("refuses protocol %j with the text that guests look for", async (version) => {
    const answer = await auth(url, version);
    expect(answer.status).toBe(401);
    expect(answer.json).toMatchObject({
      type: problem("AttestationError"),
      detail: `Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is ${version}`,
    });
  });

  it("never gives a nonce twice", async () => {
    const nonces = new Set<unknown>();
    for (let i = 0; i < 50; i += 1) nonces.add((await auth(url)).json["nonce"]);
    expect(nonces.size).toBe(50);
  });

  it.each([
    ["no extra-params", { version: "0.4.0", tee: "sample" }],
    ["an unknown tee", { version: "0.4.0", tee: "toaster", "extra-params": "" }],
    ["a tee of the prototype", { version: "0.4.0", tee: "constructor", "extra-params": "" }],
    ["no version", { tee: "sample", "extra-params": "" }],
    ["a list", []],
    ["text", '"hello"'],
    ["half a document", '{"version":"0.4.0"'],
    ["a member twice", '{"version":"0.4.0","version":"0.2.0","tee":"sample","extra-params":""}'],
  ])("refuses %s", async (_what, body) => {
    const answer = await raw(`${url}/kbs/v0/auth`, { body });
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({ type: problem("SerdeError"), code: "request-malformed", request_id: expect.any(String) });
  });

  it("accepts the former spelling of a tee from a guest of 0.2.0 only", async () => {
    expect((await auth(url, "0.2.0", "azsnpvtpm")).status).toBe(200);
    expect((await auth(url, "0.4.0", "azsnpvtpm")).status).toBe(400);
    expect((await auth(url, "0.4.0", "az-snp-vtpm")).status).toBe(200);
  });
});

describe("POST /attest", () => {
  it("gives an EAR token that others can verify with the published key", async () => {
    const { token, key } = await handshake(url);
    const jwks = (await raw(`${url}/.well-known/jwks.json`)).json["keys"] as (JWK & { x5c: string[] })[];
    const [published] = jwks;
    const { payload, protectedHeader } = await jwtVerify(token, await importJWK(published ?? {}, "ES256"));
    expect(protectedHeader).toMatchObject({ typ: "JWT", alg: "ES256", jwk: { alg: "ES256", kty: "EC", crv: "P-256" } });
    const submod = (payload["submods"] as Record<string, Record<string, unknown>>)["cpu0"] ?? {};
    expect(submod).toMatchObject({
      "ear.status": "contraindicated",
      "ear.trustworthiness-vector": { configuration: 2, executables: 33, hardware: 97 },
      "ear.appraisal-policy-id": "default",
      "ear.veraison.annotated-evidence": {
        sample: { svn: "1", launch_digest: "abcde", platform_version: { major: 1, minor: 4 }, debug: false },
        runtime_data_claims: { "tee-pubkey": key.public },
        init_data_claims: null,
      },
    });
    expect(payload).toMatchObject({
      iss: "CoCo-Attestation-Service",
      jti: expect.any(String),
      eat_profile: "tag:github.com,2024:confidential-containers/Trustee",
    });
    expect(Number(payload.exp) - Number(payload.iat)).toBe(300);
  });

  it("puts a certificate of the signing key into the header", async () => {
    const { token } = await handshake(url);
    const header = JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as { jwk: JWK & { x5c: string[] } };
    const certificate = new X509Certificate(Buffer.from(header.jwk.x5c[0] ?? "", "base64"));
    const { x5c: _x5c, alg: _alg, ...jwk } = header.jwk;
    expect(certificate.verify(createPublicKey({ key: jwk, format: "jwk" }))).toBe(true);
    expect(certificate.publicKey.export({ format: "jwk" })).toEqual(jwk);
    expect(certificate.checkIssued(certificate)).toBe(true);
  });

  it("appraises as affirming what the reference values list", async () => {
    const own = await startBench();
    await own.admin.references.set({ svn: ["1"], launch_digest: ["abcde"], major_version: 1, minimum_minor_version: 4 });
    const { token } = await handshake(own.server.url);
    expect(payloadOf(token)).toMatchObject({
      submods: { cpu0: { "ear.status": "affirming", "ear.trustworthiness-vector": { configuration: 2, executables: 3, hardware: 2 } } },
    });
    await own.close();
  });

  it("accepts the body of protocol 0.2.0", async () => {
    const { answer } = await handshake(url, newTestKey(), "0.2.0");
    expect(answer.status).toBe(200);
  });

  it("refuses without a cookie, and with a foreign, cut or changed one", async () => {
    const challenge = await auth(url);
    const body = attestBody(String(challenge.json["nonce"]), newTestKey().public);
    const cookie = challenge.cookie ?? "";
    const changed = `${cookie.slice(0, -2)}${cookie.endsWith("A") ? "BB" : "AA"}`;
    for (const bad of [undefined, "", "00112233445566778899aabbccddeeff", cookie.slice(0, 40), changed]) {
      const answer = await attest(url, bad, body);
      expect([answer.status, answer.json["code"]]).toEqual([401, "session-missing"]);
    }
  });

  it("refuses an expired session", async () => {
    const challenge = await auth(url);
    const before = bench.clock.now;
    bench.clock.now = new Date(before.getTime() + 5 * 60_000 + 1000);
    const answer = await attest(url, challenge.cookie, attestBody(String(challenge.json["nonce"]), newTestKey().public));
    bench.clock.now = before;
    expect([answer.status, answer.json["code"]]).toEqual([401, "session-expired"]);
  });

  it("refuses the nonce of another session", async () => {
    const [mine, foreign] = [await auth(url), await auth(url)];
    const answer = await attest(url, mine.cookie, attestBody(String(foreign.json["nonce"]), newTestKey().public));
    expect([answer.status, answer.json["code"]]).toEqual([401, "nonce-mismatch"]);
  });

  it("refuses evidence for another key, nonce or version", async () => {
    const challenge = await auth(url);
    const nonce = String(challenge.json["nonce"]);
    const [key, other] = [newTestKey().public, newTestKey().public];
    const body = attestBody(nonce, key);
    const swapped = { ...body, "runtime-data": { nonce, "tee-pubkey": other } };
    const oldHash = {
      ...body,
      "tee-evidence": { primary_evidence: attestBody(nonce, key, "0.2.0")["tee-evidence"], additional_evidence: "" },
    };
    for (const bad of [swapped, oldHash]) {
      const answer = await attest(url, challenge.cookie, bad);
      expect([answer.status, answer.json["type"]]).toEqual([401, problem("AttestationError")]);
    }
    expect((await attest(url, challenge.cookie, body)).status).toBe(200);
  });

  it("gives a second attestation in the session the token of the first", async () => {
    const { challenge, token, cookie } = await handshake(url);
    const again = await attest(url, challenge.cookie, attestBody(String(challenge.json["nonce"]), newTestKey().public));
    expect(again.json["token"]).toBe(token);
    expect((await attest(url, cookie, {})).json["token"]).toBe(token);
  });

  it.each(["use", "kid", "key_ops", "ext", "d"])("refuses a tee-pubkey with the member %s", async (member) => {
    const challenge = await auth(url);
    const body = attestBody(String(challenge.json["nonce"]), newTestKey().public);
    const runtime = body["runtime-data"] as Record<string, Record<string, unknown>>;
    const answer = await attest(url, challenge.cookie, {
      ...body,
      "runtime-data": { ...runtime, "tee-pubkey": { ...runtime["tee-pubkey"], [member]: "x" } },
    });
    expect(answer.status).toBe(401);
    expect(answer.json["detail"]).toContain("members that are not hashed");
  });

  it.each([
    ["a point that is not on the curve", { kty: "EC", crv: "P-256", alg: "ECDH-ES+A256KW", x: "A".repeat(43), y: "B".repeat(42) + "A" }],
    ["the point at infinity", { kty: "EC", crv: "P-256", alg: "ECDH-ES+A256KW", x: "A".repeat(43), y: "A".repeat(43) }],
    ["a short coordinate", { kty: "EC", crv: "P-256", alg: "ECDH-ES+A256KW", x: "AAAA", y: "A".repeat(43) }],
    ["P-384", { kty: "EC", crv: "P-384", alg: "ECDH-ES+A256KW", x: "A".repeat(64), y: "A".repeat(64) }],
    ["RSA1_5", { kty: "RSA", alg: "RSA1_5", n: "A".repeat(342), e: "AQAB" }],
    ["a short modulus", { kty: "RSA", alg: "RSA-OAEP-256", n: "v".repeat(171), e: "AQAB" }],
    ["an exponent of 1", { kty: "RSA", alg: "RSA-OAEP-256", n: "v".repeat(342), e: "AQ" }],
    ["a symmetric key", { kty: "oct", k: "AAAA" }],
    ["no key", null],
  ])("refuses %s as tee-pubkey", async (_what, key) => {
    const challenge = await auth(url);
    const body = attestBody(String(challenge.json["nonce"]), newTestKey().public);
    const answer = await attest(url, challenge.cookie, { ...body, "runtime-data": { nonce: challenge.json["nonce"], "tee-pubkey": key } });
    expect([answer.status, answer.json["code"]]).toEqual([401, "evidence-refused"]);
  });

  it("takes evidence of a second device, bound through its text", async () => {
    const challenge = await auth(url);
    const nonce = String(challenge.json["nonce"]);
    const key = newTestKey().public;
    const device = { svn: "2", report_data: deviceReportData({ nonce, teePublicKey: key }).toString("base64") };
    const additional = JSON.stringify({ sampledevice: device });
    const answer = await attest(url, challenge.cookie, attestBody(nonce, key, "0.4.0", additional));
    expect(answer.status).toBe(200);
    expect(Object.keys(payloadOf(String(answer.json["token"]))["submods"] as object)).toEqual(["cpu0", "gpu0"]);
    const forged = attestBody(nonce, key, "0.4.0", additional);
    (forged["tee-evidence"] as Record<string, unknown>)["additional_evidence"] = additional.replace('"2"', '"3"');
    const fresh = await auth(url);
    expect((await attest(url, fresh.cookie, forged)).status).toBe(401);
  });

  it("reports init-data and refuses formats other than toml", async () => {
    const toml =
      "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\"aa.toml\" = '''x = 1'''\n\"policy.rego\" = '''package a\npolicy_data := {\"containers\": []}'''\n";
    const challenge = await auth(url);
    const nonce = String(challenge.json["nonce"]);
    const key = newTestKey().public;
    const answer = await attest(url, challenge.cookie, attestBody(nonce, key, "0.4.0", "", { format: "toml", body: toml }));
    const evidence = (payloadOf(String(answer.json["token"]))["submods"] as Record<string, Record<string, Record<string, unknown>>>)[
      "cpu0"
    ]?.["ear.veraison.annotated-evidence"];
    expect(evidence).toMatchObject({
      init_data: expect.stringMatching(/^[0-9a-f]{96}$/),
      init_data_claims: { "aa.toml": { x: 1 }, agent_policy_claims: { containers: [] } },
    });
    for (const initData of [
      { format: "json", body: "{}" },
      { format: "toml", body: "= broken" },
      { format: "toml", body: 'version="1"\nalgorithm="md5"\n[data]' },
      "text",
    ]) {
      const other = await auth(url);
      const refused = await attest(url, other.cookie, attestBody(String(other.json["nonce"]), key, "0.4.0", "", initData));
      expect(refused.status).toBe(400);
    }
  });
});

describe("GET /resource", () => {
  const read = (path: string, headers: Record<string, string> = {}) => raw(`${url}/kbs/v0/resource/${path}`, { headers });

  it("answers with a JWE that jose opens, for cookie and for bearer token", async () => {
    const { key, token, cookie } = await handshake(url);
    const privateKey = await importJWK({ ...key.privateJwk, kty: "EC" }, "ECDH-ES+A256KW");
    const withCookie: Record<string, string> = { cookie: `kbs-session-id=${cookie}` };
    for (const headers of [withCookie, { authorization: `Bearer ${token}` }]) {
      const answer = await read("default/key/1", headers);
      expect([answer.status, answer.headers["content-type"]]).toEqual([200, "application/json"]);
      expect(Object.keys(answer.json)).toEqual(["protected", "encrypted_key", "iv", "ciphertext", "tag"]);
      const opened = await flattenedDecrypt(answer.json as { ciphertext: string }, privateKey);
      expect(Buffer.from(opened.plaintext).toString()).toBe("a secret");
    }
  });

  it("looks at the cookie's session first, and at the bearer token when the session is not attested", async () => {
    const [first, second, open] = [await handshake(url), await handshake(url), await auth(url)];
    const opens = async (key: Awaited<ReturnType<typeof handshake>>["key"], headers: Record<string, string>) => {
      const answer = await read("default/key/1", headers);
      const privateKey = await importJWK({ ...key.privateJwk, kty: "EC" }, "ECDH-ES+A256KW");
      return flattenedDecrypt(answer.json as { ciphertext: string }, privateKey).then(
        () => true,
        () => false,
      );
    };
    const both = { cookie: `kbs-session-id=${first.cookie}`, authorization: `Bearer ${second.token}` };
    expect([await opens(first.key, both), await opens(second.key, both)]).toEqual([true, false]);
    expect(await opens(second.key, { cookie: `kbs-session-id=${open.cookie}`, authorization: `Bearer ${second.token}` })).toBe(true);
  });

  it.each(["P-521", "RSA-OAEP-256"] as const)("wraps to a %s key", async (teeKey) => {
    const guest = connectKbs({ url, attester: sampleAttester(), teeKey });
    expect((await guest.fetchResource("kbs:///default/key/1")).toString()).toBe("a secret");
    await guest.close();
  });

  it("refuses without a token, and with one that is not ours", async () => {
    const missing = await read("default/key/1");
    expect([missing.status, missing.json["type"]]).toEqual([401, problem("TokenNotFound")]);
    const { token } = await handshake(url);
    const [header = "", payload = "", signature = ""] = token.split(".");
    const forge = (head: object) => `${Buffer.from(JSON.stringify(head)).toString("base64url")}.${payload}`;
    const kid = (JSON.parse(Buffer.from(header, "base64url").toString()) as { kid: string }).kid;
    const bad = [
      "nonsense",
      `${header}.${payload}.${signature.slice(0, -4)}AAAA`,
      `${forge({ alg: "none", typ: "JWT", kid })}.`,
      `${forge({ alg: "HS256", typ: "JWT", kid })}.${signature}`,
      `${forge({ alg: "ES256", typ: "JWT" })}.${signature}`,
    ];
    for (const forged of bad) {
      const answer = await read("default/key/1", { authorization: `Bearer ${forged}` });
      expect([answer.status, answer.json["type"]]).toEqual([401, problem("TokenVerifierError")]);
    }
  });

  it("refuses an expired token, with a minute of leeway for clocks", async () => {
    const { token } = await handshake(url);
    const before = bench.clock.now;
    const at = async (seconds: number) => {
      bench.clock.now = new Date(before.getTime() + seconds * 1000);
      const answer = await read("default/key/1", { authorization: `Bearer ${token}` });
      bench.clock.now = before;
      return answer.status;
    };
    expect([await at(300 + 58), await at(300 + 62)]).toEqual([200, 401]);
  });

  it("says 404 for a typo, but only to those who may have it", async () => {
    const { token } = await handshake(url);
    const answer = await read("default/key/typo", { authorization: `Bearer ${token}` });
    expect([answer.status, answer.json["code"]]).toEqual([404, "resource-not-found"]);
    expect((await read("default/key/typo")).status).toBe(401);
  });

  it.each([
    ".a/b/c",
    "a//b",
    "a/b",
    "a/b/c/d",
    "a/b/..",
    "../b/c",
    "a/b/c%2fd",
    "a%2fb/c/d",
    "%2e%2e/b/c",
    "a/b/c%00",
    "a/b/ü",
    "",
    "a/b/",
  ])("refuses the path %j", async (path) => {
    const { token } = await handshake(url);
    const answer = await read(path, { authorization: `Bearer ${token}` });
    expect([answer.status, answer.json["code"]]).toEqual([400, "path-malformed"]);
  });

  it("denies with reasons when the policy does", async () => {
    const strict = await startBench({
      mode: "production",
      verifiers: [{ tees: ["sample"], verify: () => Promise.resolve({ claims: { svn: "9" }, reportData: "" }) }],
    });
    await strict.admin.putResource("kbs:///default/key/1", Buffer.from("x"));
    const { token } = await handshake(strict.server.url);
    const answer = await raw(`${strict.server.url}/kbs/v0/resource/default/key/1`, { headers: { authorization: `Bearer ${token}` } });
    expect([answer.status, answer.json["type"], answer.json["detail"]]).toEqual([403, problem("PolicyDeny"), "Access denied by policy"]);
    expect(answer.json["reasons"]).toEqual([expect.stringContaining("cpu0 is contraindicated, not affirming")]);
    await expect(strict.guest.fetchResource("kbs:///default/key/1")).rejects.toMatchObject({ code: "ERR_KBS_RELEASE_DENIED" });
    await strict.close();
  });

  it("names a plugin that it does not have, to guests only", async () => {
    const { token } = await handshake(url);
    const headers = { authorization: `Bearer ${token}` };
    const answer = await raw(`${url}/kbs/v0/nebula-ca/credential/x`, { headers });
    expect([answer.status, answer.json["type"], answer.json["detail"]]).toEqual([
      404,
      problem("PluginNotFound"),
      "Plugin nebula-ca not found",
    ]);
    expect((await raw(`${url}/kbs/v0/nebula-ca/credential/x`)).status).toBe(401);
  });
});

describe("the statuses of Trustee, for people who compare", () => {
  it("answers 401 for a missing resource", async () => {
    const trustee = await startBench({ statuses: "trustee" });
    const { token } = await handshake(trustee.server.url);
    const answer = await raw(`${trustee.server.url}/kbs/v0/resource/default/key/typo`, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(401);
    await expect(trustee.guest.fetchResource("kbs:///default/key/typo")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
    await trustee.close();
  });
});

it("a token of development opens nothing in production, though both are signed by the same key, and a service without audit says so", async () => {
  const shared = { store: openMemoryStore(), rootKeys: [generateRootKey()] as const };
  const development = await startBench(shared);
  await development.admin.putResource("kbs:///default/key/1", Buffer.from("a secret"));
  const { token } = await handshake(development.server.url);
  const ask = (base: string) => raw(`${base}/kbs/v0/resource/default/key/1`, { headers: { authorization: `Bearer ${token}` } });
  expect((await ask(development.server.url)).status).toBe(200);
  const logged: unknown[] = [];
  const production = await startBench({ ...shared, mode: "production", log: (event) => logged.push(event) });
  expect(logged).toContainEqual(expect.objectContaining({ event: "no-audit" }));
  const answer = await ask(production.server.url);
  expect(answer.status).toBe(401);
  expect(answer.text).toContain("development mode");
  await production.close();
  await development.close();
});
