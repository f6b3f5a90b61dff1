import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { exportJWK, SignJWT, type JWTHeaderParameters } from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cocoAttestationService } from "../../src/kbs/index.ts";
import { teeKeyIn } from "../../src/kbs/tokens/attestation-tokens.ts";
import { primaryReportData } from "../../src/kbs/protocol/runtime-data.ts";
import { startFakeAttestationService } from "./fakes.ts";
import { attest, attestBody, auth, newTestKey, raw, startBench, type Bench, type RawAnswer, type TestKey } from "./harness.ts";

interface Asked {
  readonly nonce: string;
  readonly "tee-pubkey": Readonly<Record<string, unknown>>;
  readonly "additional-evidence": string;
}

const key = generateKeyPairSync("ec", { namedCurve: "P-256" });
const good = ({ nonce, "tee-pubkey": teePublicKey, "additional-evidence": additionalEvidence }: Asked): Record<string, unknown> => ({
  snp: { measurement: "ab".repeat(48) },
  report_data: Buffer.concat([
    primaryReportData({ nonce, teePublicKey: teePublicKey as unknown as TestKey["public"], additionalEvidence }, "0.4.0"),
    Buffer.alloc(16),
  ]).toString("hex"),
  runtime_data_claims: { nonce, "tee-pubkey": teePublicKey, "additional-evidence": additionalEvidence },
});

let service: Awaited<ReturnType<typeof startFakeAttestationService>>;
let bench: Bench;
/** What the service says of the evidence that it is asked about. */
let say: (asked: Asked) => Record<string, unknown>;
let status: number;
let nextToken: string;

function token(claims: Record<string, unknown>): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid: "as-1" }).setIssuedAt().setExpirationTime("5m").sign(key.privateKey);
}

const submods = (evidence: unknown) => ({ submods: { cpu0: { "ear.status": "affirming", "ear.veraison.annotated-evidence": evidence } } });

beforeEach(async () => {
  status = 200;
  say = (asked) => submods(good(asked));
  const jwk = { ...(await exportJWK(key.publicKey)), alg: "ES256", kid: "as-1" };
  service = await startFakeAttestationService(
    () => ({ status, text: status === 200 ? nextToken : "attestation failed: bad quote" }),
    () => ({ keys: [jwk] }),
  );
  const forwarding = cocoAttestationService({ url: service.url, policyIds: [] });
  const attesting = {
    attest: async (job: Parameters<typeof forwarding.attest>[0]) => {
      // Signing takes a promise, which the answer of a fake cannot wait for.
      nextToken = await token(say({ nonce: job.session.nonce, "tee-pubkey": { ...job.request.teePublicKey }, "additional-evidence": "" }));
      return forwarding.attest(job);
    },
  };
  bench = await startBench({ mode: "production", attestation: attesting, foreignTokens: forwarding });
  await bench.admin.putResource("kbs:///a/b/c", Buffer.from("released"));
});
afterEach(async () => {
  await bench.close();
  await service.close();
});

async function attestAs(tee: string, guest = newTestKey()): Promise<RawAnswer> {
  const challenge = await auth(bench.server.url, "0.4.0", tee);
  return attest(bench.server.url, challenge.cookie, attestBody(String(challenge.json["nonce"]), guest.public));
}

const fetchWith = (bearer: string) => raw(`${bench.server.url}/kbs/v0/resource/a/b/c`, { headers: { authorization: `Bearer ${bearer}` } });

describe("the key of a guest in a token's claims", () => {
  const [first, second] = [newTestKey().public, newTestKey().public];
  const places: readonly [string, (key: unknown) => Record<string, unknown>][] = [
    ["Intel Trust Authority's runtime data", (found) => ({ tdx: { attester_runtime_data: { "tee-pubkey": found } } })],
    ["Intel Trust Authority's user data", (found) => ({ tdx: { attester_user_data: { "tee-pubkey": found } } })],
    ["a simple token", (found) => ({ customized_claims: { runtime_data: { "tee-pubkey": found } } })],
    ["an EAR token", (found) => submods({ runtime_data_claims: { "tee-pubkey": found } })],
    ["the claims themselves", (found) => ({ "tee-pubkey": found })],
  ];
  it.each(places)("is found in %s, before all places after it", (_what, claimsWith) => {
    const index = places.findIndex(([, place]) => place === claimsWith);
    const later = places.slice(index + 1).map(([, place]) => place({ ...second }));
    // Two places of one member are merged, as in a token that has both.
    const tdx = Object.assign({}, ...later.map(({ tdx: found }) => found), claimsWith({ ...first })["tdx"]) as object;
    expect(teeKeyIn({ ...Object.assign({}, ...later), ...claimsWith({ ...first }), tdx })).toEqual(first);
    expect(() => teeKeyIn(claimsWith("no key"))).toThrow(expect.objectContaining({ code: "ERR_KBS_ATTESTATION_REFUSED" }));
  });
});

describe("a CoCo attestation service behind ours", () => {
  it("judges the evidence; its token opens resources", async () => {
    const answer = await attestAs("snp");
    expect(answer.status, answer.text).toBe(200);
    expect((await fetchWith(String(answer.json["token"]))).status).toBe(200);
    expect(service.bodies[0]).toMatchObject({
      verification_requests: [
        {
          tee: "snp",
          evidence: expect.any(String),
          runtime_data: { structured: { nonce: expect.any(String), "additional-evidence": "" } },
          runtime_data_hash_algorithm: "sha384",
        },
      ],
      policy_ids: ["default"],
    });
  });

  it("that refuses is passed on", async () => {
    status = 500;
    expect(await attestAs("snp")).toMatchObject({ status: 401, json: { detail: expect.stringContaining("bad quote") } });
  });

  it("is not asked about a sample TEE in production, and not believed about one", async () => {
    expect(await attestAs("sample")).toMatchObject({ status: 401, json: { code: "evidence-refused" } });
    expect(service.bodies).toEqual([]);
    say = ({ ...asked }) => {
      const { snp: _snp, ...rest } = good(asked);
      return submods({ sample: {}, ...rest });
    };
    expect(await attestAs("snp")).toMatchObject({ status: 401, json: { detail: expect.stringContaining("sample TEE") } });
    const { snp: _snp, ...rest } = good({ nonce: "n", "tee-pubkey": { ...newTestKey().public }, "additional-evidence": "" });
    expect((await fetchWith(await token(submods({ sampledevice: {}, ...rest })))).status).toBe(401);
  });

  it.each<[string, (asked: Asked) => Record<string, unknown>]>([
    ["another challenge", (asked) => submods(good({ ...asked, nonce: Buffer.alloc(32).toString("base64") }))],
    ["another key", (asked) => submods(good({ ...asked, "tee-pubkey": { ...newTestKey().public } }))],
    ["a key with further members", (asked) => submods(good({ ...asked, "tee-pubkey": { ...asked["tee-pubkey"], use: "enc" } }))],
    ["no challenge at all", () => submods({ snp: {} })],
    ["no device", () => ({ submods: {} })],
    ["nothing", () => ({})],
    ["report data of another challenge", (asked) => submods({ ...good(asked), report_data: "00".repeat(64) })],
    ["cut report data", (asked) => submods({ ...good(asked), report_data: String(good(asked)["report_data"]).slice(0, 32) })],
    [
      "a second device with another challenge",
      (asked) => ({
        submods: {
          cpu0: { "ear.veraison.annotated-evidence": good(asked) },
          gpu0: {
            "ear.veraison.annotated-evidence": { nvidia: {}, runtime_data_claims: { nonce: "x", "tee-pubkey": asked["tee-pubkey"] } },
          },
        },
      }),
    ],
  ])("is not believed when its token speaks of %s", async (_what, claims) => {
    say = claims;
    const answer = await attestAs("snp");
    expect([answer.status, answer.json["code"]], answer.text).toEqual([401, "evidence-refused"]);
  });

  it("gives tokens that are good here only for a challenge of ours", async () => {
    const guest = newTestKey();
    const foreign = { nonce: Buffer.alloc(32, 7).toString("base64"), "tee-pubkey": { ...guest.public }, "additional-evidence": "" };
    // Genuine evidence, a genuine service, but the challenge was somebody else's.
    expect(await fetchWith(await token(submods(good(foreign))))).toMatchObject({ status: 401, json: { code: "token-invalid" } });
    const { json } = await auth(bench.server.url, "0.4.0", "snp");
    expect((await fetchWith(await token(submods(good({ ...foreign, nonce: String(json["nonce"]) }))))).status).toBe(200);
  });

  it("is known by the key that its key set names, whatever a token's header brings along", async () => {
    const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const [ours, theirs] = await Promise.all([exportJWK(key.publicKey), exportJWK(stranger.publicKey)]);
    const reversed = Object.fromEntries(Object.entries(ours).reverse());
    const { json } = await auth(bench.server.url, "0.4.0", "snp");
    const asked = { nonce: String(json["nonce"]), "tee-pubkey": { ...newTestKey().public }, "additional-evidence": "" };
    const claims = submods(good(asked));
    const status = async (header: JWTHeaderParameters, signer: KeyObject | Uint8Array): Promise<number> => {
      const bearer = await new SignJWT(claims).setProtectedHeader(header).setExpirationTime("5m").sign(signer);
      return (await fetchWith(bearer)).status;
    };
    // The order of the header's members and of its key's is nobody's business; a key or certificate in it counts for nothing.
    expect(await status({ alg: "ES256", kid: "as-1", typ: "JWT" }, key.privateKey)).toBe(200);
    expect(await status({ kid: "as-1", jwk: reversed, typ: "JWT", alg: "ES256" }, key.privateKey)).toBe(200);
    expect(await status({ alg: "ES256", kid: "as-1", x5c: ["AAAA"], jwk: theirs }, key.privateKey)).toBe(200);
    expect(await status({ alg: "ES256", kid: "as-1", jwk: theirs }, stranger.privateKey)).toBe(401);
    expect(await status({ alg: "ES256", jwk: theirs }, stranger.privateKey)).toBe(401);
    expect(await status({ alg: "ES256", kid: "as-2", jwk: theirs }, stranger.privateKey)).toBe(401);
    expect(await status({ alg: "ES256", kid: "as-2" }, key.privateKey)).toBe(401);
    expect(await status({ alg: "HS256", kid: "as-1" }, Buffer.from(JSON.stringify(ours)))).toBe(401);
  });

  it("opens nothing for a key that is no point of its curve", async () => {
    const { json } = await auth(bench.server.url, "0.4.0", "snp");
    const off = { ...newTestKey().public, y: "A".repeat(43) };
    const answer = await fetchWith(
      await token(submods(good({ nonce: String(json["nonce"]), "tee-pubkey": off, "additional-evidence": "" }))),
    );
    expect([answer.status, answer.json["code"]], answer.text).toEqual([401, "evidence-refused"]);
  });

  it("of former versions writes simple tokens, which are bound the same way", async () => {
    const guest = newTestKey();
    const { json } = await auth(bench.server.url, "0.4.0", "snp");
    const simple = (nonce: unknown, status: Record<string, unknown>) =>
      token({ "tcb-status": status, customized_claims: { runtime_data: { nonce, "tee-pubkey": { ...guest.public } } } });
    // Bound, but the default policy knows only the devices of EAR tokens.
    expect((await fetchWith(await simple(json["nonce"], { "snp.measurement": "ab" }))).status).toBe(403);
    expect((await fetchWith(await simple("x", { "snp.measurement": "ab" }))).status).toBe(401);
    expect((await fetchWith(await simple(json["nonce"], { "sample.svn": "1" }))).status).toBe(401);
  });
});
