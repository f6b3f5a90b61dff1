import { createSign, generateKeyPairSync } from "node:crypto";
import { parseJson } from "../../src/bytes/index.ts";
import { parseRecordLine } from "../../src/kbs/audit/parse-line.ts";
import { parseKbsConfig } from "../../src/kbs/index.ts";
import { parseRootKey } from "../../src/kbs/keys/root-key.ts";
import { parseReferenceMessage } from "../../src/kbs/policies/reference-values.ts";
import { parseAdditionalEvidence, parseAttestationRequest, parseAuthRequest, parseChallenge } from "../../src/kbs/protocol/messages.ts";
import { parseKeyTarget, parseResourcePath, parseResourceUri } from "../../src/kbs/protocol/resource-path.ts";
import { parseResponseJwe } from "../../src/kbs/protocol/response-jwe.ts";
import { parseTeePublicKey } from "../../src/kbs/protocol/tee-key.ts";
import { jwtIssuer } from "../../src/kbs/tokens/jwt-issuer.ts";
import { openCompact } from "../../src/kbs/tokens/jws.ts";
import { compileJsonPolicy, compileRegoAppraisal, compileRegoRelease, type PolicyQuestion } from "../../src/policy/index.ts";
import { json, text, type FuzzTarget } from "./run.ts";

const limits = { maxBytes: 1 << 20 };
const now = new Date("2026-11-24T12:00:00Z");

/** Signs claims, so that what follows a good signature is reached too. */
function token(claims: object, key: ReturnType<typeof generateKeyPairSync>["privateKey"]): Buffer {
  const head = Buffer.from(JSON.stringify({ alg: "ES256", kid: "k", typ: "JWT" })).toString("base64url");
  const body = Buffer.from(JSON.stringify(claims)).toString("base64url");
  const signature = createSign("sha256").update(`${head}.${body}`).sign({ key, dsaEncoding: "ieee-p1363" });
  return text(`${head}.${body}.${signature.toString("base64url")}`);
}

const release = `package policy
import rego.v1
default allow := false
allow if {
  input["submods"]["cpu0"]["ear.status"] == "affirming"
  some measurement in data.reference.measurements
  measurement == input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["tdx"]["quote"]["body"]["mr_td"]
}
`;
const appraisal = `package policy
import rego.v1
default executables := 33
executables := 3 if { input.tdx.quote.body.mr_td in data.reference.mr_td }
trust_claims := {"executables": executables}
`;
const policy = {
  version: 1,
  tee: ["tdx"],
  allowed_measurements: ["91".repeat(48)],
  enforce_debug_disabled: true,
  not_after: "2027-01-01T00:00:00Z",
};
const question: PolicyQuestion = {
  plugin: "resource",
  resourcePath: ["default", "key", "1"],
  query: {},
  claims: {
    submods: {
      cpu0: { "ear.status": "affirming", "ear.veraison.annotated-evidence": { tdx: { quote: { body: { mr_td: "91".repeat(48) } } } } },
    },
  },
  now,
};

/** What guests and administrators send to the Key Broker Service, what it answers, and what operators give it. */
export function serviceTargets(): readonly FuzzTarget[] {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { x, y } = publicKey.export({ format: "jwk" });
  const teeKey = { kty: "EC", crv: "P-256", alg: "ECDH-ES+A256KW", x, y };
  const issuer = jwtIssuer({
    name: "fuzz",
    keys: { kind: "pem", pems: [String(publicKey.export({ format: "pem", type: "spki" }))] },
    audience: "ociseal-kbs",
    rules: [{ claims: { repository: "a/b" }, roles: ["reader"] }],
    roles: { reader: [{ actions: ["resource:read"], paths: ["**"] }] },
  });
  const tokens = [
    token({ aud: "ociseal-kbs", exp: now.getTime() / 1000 + 60, repository: "a/b", role: ["reader"], sub: "x" }, privateKey),
    token({ aud: ["ociseal-kbs"], exp: now.getTime() / 1000 - 1 }, privateKey),
  ];
  const evidence = {
    "init-data": null,
    "runtime-data": { nonce: "bm9uY2U=", "tee-pubkey": teeKey },
    "tee-evidence": { primary_evidence: { svn: "1" }, additional_evidence: "" },
  };
  const record = {
    action: "release",
    decision: "allow",
    actor: "a",
    requestId: "r",
    address: "::1",
    chain: "c",
    seq: 1,
    time: now.toISOString(),
    prev: "0".repeat(64),
    hash: "ab".repeat(32),
  };
  const config =
    'mode = "development"\n[store]\nkind = "memory"\n[[issuers]]\nname = "a"\naudience = "b"\nkeys = { kind = "jwks", file = "/x" }\n[[issuers.rules]]\nclaims = { sub = "x" }\nroles = ["admin"]\n';
  const response = {
    protected: Buffer.from('{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{}}').toString("base64url"),
    encrypted_key: "YWE",
    iv: "YWFhYWFhYWFhYWFh",
    ciphertext: "YQ",
    tag: "YWFhYWFhYWFhYWFhYWFhYQ",
  };
  const reads = (read: (value: string) => unknown) => (input: Buffer) => read(input.toString("utf8"));
  const value = (read: (document: unknown) => unknown) => (input: Buffer) => read(parseJson(input, limits));
  return [
    {
      name: "challenge request",
      weight: 4,
      seeds: [json({ version: "0.4.0", tee: "tdx", "extra-params": {} })],
      run: (input) => parseAuthRequest(input, limits),
    },
    { name: "attestation request", weight: 6, seeds: [json(evidence)], run: (input) => parseAttestationRequest(input, "0.4.0", limits) },
    {
      name: "attestation request of 0.2.0",
      weight: 2,
      seeds: [json({ "tee-pubkey": teeKey, "tee-evidence": {} })],
      run: (input) => parseAttestationRequest(input, "0.2.0", limits),
    },
    {
      name: "evidence of further devices",
      weight: 2,
      seeds: [json({ sample: {} })],
      run: reads((text) => parseAdditionalEvidence(text, limits)),
    },
    { name: "challenge", weight: 2, seeds: [json({ nonce: "YQ==", "extra-params": {} })], run: value(parseChallenge) },
    { name: "sealed answer", weight: 4, seeds: [json(response)], run: value(parseResponseJwe) },
    { name: "key of a guest", weight: 4, seeds: [json(teeKey)], run: value(parseTeePublicKey) },
    { name: "resource path", weight: 2, seeds: [text("default/key/1")], run: reads(parseResourcePath) },
    { name: "resource URI", weight: 2, seeds: [text("kbs:///default/key/1")], run: reads(parseResourceUri) },
    { name: "key target", weight: 2, seeds: [text("kbs:///default/key")], run: reads(parseKeyTarget) },
    {
      name: "token",
      weight: 4,
      seeds: tokens,
      run: (input) => issuer.verify(input.toString("latin1"), now, { method: "GET", path: "/kbs/v0/resource/a/b/c" }),
      // The service takes whatever is thrown for a refusal.
      refuses: (error) => error instanceof Error,
    },
    {
      name: "token of our own",
      weight: 4,
      seeds: tokens,
      run: (input) => openCompact(input.toString("latin1"))?.verify({ algorithm: "ES256", publicKey }),
    },
    {
      name: "reference values",
      weight: 2,
      seeds: [json({ version: "0.1.0", type: "sample", payload: json({ a: ["b"] }).toString("base64") })],
      run: (input) => parseReferenceMessage(input, limits),
    },
    { name: "audit line", weight: 3, seeds: [json(record)], run: parseRecordLine },
    { name: "root key", weight: 1, seeds: [text("ab".repeat(32)), text(Buffer.alloc(32).toString("base64"))], run: reads(parseRootKey) },
    { name: "configuration", weight: 4, seeds: [text(config)], run: reads(parseKbsConfig) },
    { name: "policy in JSON", weight: 5, seeds: [json(policy)], run: reads((text) => compileJsonPolicy(text).evaluate(question)) },
    {
      name: "resource policy in Rego",
      weight: 8,
      seeds: [text(release)],
      run: reads((text) => compileRegoRelease(text).evaluate(question)),
    },
    { name: "attestation policy in Rego", weight: 5, seeds: [text(appraisal)], run: reads((text) => compileRegoAppraisal(text)) },
  ];
}
