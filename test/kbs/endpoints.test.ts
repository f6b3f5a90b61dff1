import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { policyEngines } from "../../cli/policy-engines.ts";
import type { ServiceContext } from "../../src/kbs/server/context.ts";
import { serviceRoutes } from "../../src/kbs/server/service-routes.ts";
import { mutate, randomSource } from "../fuzz/mutate.ts";
import { attestBody, auth, handshake, newTestKey, raw, startBench, type Bench } from "./harness.ts";

let bench: Bench;
let url: string;
let token: string;
beforeAll(async () => {
  const rate = { perSecond: 100_000, burst: 100_000 };
  bench = await startBench({ policyEngines, limits: { addressRate: rate, subjectRate: rate } });
  url = bench.server.url;
  ({ token } = await handshake(url));
});
afterAll(() => bench.close());

/** The router's own list: an endpoint that is added is fuzzed. Nobody asks the handlers anything here. */
const endpoints = serviceRoutes({} as ServiceContext).map(({ method, pattern }) => [method, pattern] as const);

const base64url = (text: string) => Buffer.from(text).toString("base64url");
const rego = "package policy\nimport rego.v1\ndefault allow := false\nallow if { input.a == 1 }\n";
/** What each endpoint would take; changed a little, it gets further than anything that is made up. */
const good: Readonly<Record<string, unknown>> = {
  "POST /kbs/v0/auth": { version: "0.4.0", tee: "sample", "extra-params": {} },
  "POST /kbs/v0/attest": attestBody("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", newTestKey().public),
  "POST /kbs/v0/resource-policy": { policy: base64url(rego) },
  "POST /kbs/v0/attestation-policy": { type: "rego", policy_id: "default_cpu", policy: base64url(rego) },
  "POST /kbs/v0/reference-value": {
    version: "0.1.0",
    type: "sample",
    payload: Buffer.from('{"svn":["1"]}').toString("base64"),
  },
  "PUT /api/v1/reference-values/:id": { value: ["1"], expires_at: "2040-01-01T00:00:00Z" },
  "PUT /api/v1/policies/:id": { language: "json", resources: "a/b/*", policy: '{"version":1,"tee":["tdx"],"enforce_debug_disabled":true}' },
  "PUT /api/v1/attestation-policies/:id": { language: "rego", resources: "**", policy: rego },
  "POST /api/v1/policies/evaluate": { resource: "a/b/c", claims: { submods: { cpu0: { "ear.status": "affirming" } } }, query: { a: "1" } },
  "POST /api/v1/resources/:repository/:type/:tag/confirm": { challenge: Buffer.alloc(32).toString("base64url") },
  "POST /api/v1/keys": { path: "a/b/c", rotation_days: 30 },
  "POST /api/v1/keys/:repository/:type/:tag/rewrap": { packet: Buffer.from('{"kid":"kbs:///a/b/c"}').toString("base64") },
  "POST /api/v1/keys/:repository/:type/:tag/disable": { version: 1 },
  "POST /api/v1/keys/:repository/:type/:tag/enable": { version: 1 },
  "POST /api/v1/keys/:repository/:type/:tag/destroy": { version: 1 },
  "POST /api/v1/tokens": { subject: "x", role: "r", grants: [{ actions: ["resource:read"], paths: ["a/**"] }], lifetime_seconds: 60 },
  "POST /api/v1/system/rotate-signing-key": { purpose: "attestation", former: "keep" },
};

const memberNames =
  "version tee extra-params runtime-data tee-evidence nonce tee-pubkey policy policy_id payload path packet challenge claims resource subject role grants " +
  "actions paths value language init-data primary_evidence additional_evidence token query rotation_days expires_at __proto__ constructor";
const words = fc.constantFrom(...memberNames.split(" "));
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string(),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    words,
    fc.constantFrom("0.4.0", "sample", "a/b/c", "rego", "AAAA"),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(words, tie("value"), { maxKeys: 5 }),
  ),
})).value;

const segment = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom("a", "b", "c", "x", "c.v1", "default_cpu") },
  { weight: 1, arbitrary: fc.constantFrom(".a", "..", "", "a%2fb", "%00", "a".repeat(300), "__proto__", "a.v0", "a.v99999999999") },
);
const queries =
  "?limit=0 ?limit=1e9&after=../.. ?prefix=%00&after=%2e ?last=99999999999999999999 ?after=-1 ?hours=0&buckets=x ?a=1&a=2 ?% ?limit=2&prefix=a";
const query = fc.oneof(fc.constant(""), fc.constantFrom(...queries.split(" ")));

describe("an endpoint", () => {
  it("is good for a request as it should be, wherever one is given here", () => {
    expect(Object.keys(good).filter((key) => !endpoints.some(([method, pattern]) => key === `${method} ${pattern}`))).toEqual([]);
  });

  it.each(endpoints)("%s %s answers whatever it is sent, with JSON when it refuses, and never with a 500", async (method, pattern) => {
    const seed = Buffer.from(JSON.stringify(good[`${method} ${pattern}`] ?? {}));
    const other = Buffer.from(JSON.stringify(good));
    const body = fc.oneof(
      fc.dictionary(words, json, { maxKeys: 6 }).map((value) => Buffer.from(JSON.stringify(value))),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      { weight: 3, arbitrary: fc.integer({ min: 1 }).map((number) => mutate(seed, other, randomSource(number))) },
    );
    const parts = pattern.split("/").flatMap((part) => (part.startsWith("*") ? [":1", ":2", ":3"] : [part]));
    const path = fc
      .tuple(...parts.map((part) => (part.startsWith(":") ? segment : fc.constant(part))))
      .map((segments) => segments.join("/"));
    const bearer = fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom("admin", "admin", "admin", "guest") },
      { weight: 1, arbitrary: fc.constantFrom("", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "\u00ff") },
    );
    const forGuests = method === "GET" && /^\/kbs\/v0\/(resource\/\*|:plugin)/.test(pattern);
    let cookie = (await auth(url)).cookie;
    await fc.assert(
      fc.asyncProperty(body, path, query, bearer, async (bytes, where, text, who) => {
        const credential = who === "admin" && !forGuests ? bench.server.adminToken : who === "guest" || who === "admin" ? token : who;
        const headers = { authorization: `Bearer ${credential}`, cookie: `kbs-session-id=${cookie}` };
        const answer = await raw(`${url}${where}${text}`, { method, headers, ...(method === "GET" ? {} : { body: bytes }) });
        expect(answer.status).toBeLessThan(500);
        const refusal = {
          type: expect.stringMatching(/^https:\/\/github\.com\//),
          detail: expect.any(String),
          code: expect.any(String),
          request_id: expect.any(String),
        };
        expect(answer.status < 400 ? refusal : answer.json).toMatchObject(refusal);
        if (answer.cookie !== undefined) cookie = (await auth(url)).cookie;
      }),
      { numRuns: 40 },
    );
    // Whatever it was told, the service has its wits and its administrator about it.
    const after = await raw(`${url}/api/v1/system`, { headers: { authorization: `Bearer ${bench.server.adminToken}` } });
    expect(after.status).toBe(200);
  });
});
