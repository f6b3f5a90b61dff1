import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  keyProvider,
  parseWrapTarget,
  type KekRegistry,
  type KeyProviderOptions,
  type ProviderEvent,
  type RegisteredKek,
} from "../../src/keyprovider/index.ts";
import { brokerUnwrapper, keksAtHand } from "../../src/keywrap/index.ts";

const optsdata = Buffer.from(
  '{"symkey":"WDyhxdATHVJqvvBl1+Pg+s0pphCwYYQ0rzrjJKgD8mM=","digest":"sha256:187aa02661195a664ba17abff9b32cbe541ffddc7fe721a45020265257af1565","cipheroptions":{"nonce":"n+AR0+YMfnwAqFCLfuW7Zw=="}}',
);
const b64 = (text: string | Uint8Array): string => Buffer.from(text).toString("base64");

/** A registry in memory that counts, and answers later. */
function memoryRegistry(rights: "read" | "create-only" = "read"): KekRegistry & { readonly made: Map<string, Uint8Array> } {
  const made = new Map<string, Uint8Array>();
  return {
    made,
    async register(uri): Promise<RegisteredKek | undefined> {
      const present = made.get(uri);
      if (present !== undefined) return rights === "read" ? { uri, kek: present } : undefined;
      const kek = Buffer.alloc(32, made.size + 1);
      made.set(uri, kek);
      await new Promise((resolve) => setImmediate(resolve));
      return { uri, kek };
    },
    async registerGiven(uri, kek) {
      made.set(uri, kek);
      return { uri, kek };
    },
  };
}

let count = 0;
function provider(registry: KekRegistry | undefined, more: Partial<KeyProviderOptions> = {}) {
  const keys = (): readonly { readonly uri: string; readonly kek: Uint8Array }[] =>
    [...((registry as ReturnType<typeof memoryRegistry> | undefined)?.made ?? [])].map(([uri, kek]) => ({ uri, kek }));
  return keyProvider({
    registry,
    readKeyFile: undefined,
    unwrappers: async () => [brokerUnwrapper({ broker: keksAtHand(keys()), name: "memory", reach: "local" })],
    sample: "refused",
    freshTag: () => `fresh-${(count += 1)}`,
    now: () => 0,
    ...more,
  });
}

const wrapRequest = (parameters: readonly string[], more: Readonly<Record<string, unknown>> = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      op: "keywrap",
      keywrapparams: {
        ec: { Parameters: { "attestation-agent": parameters.map(b64), ...more }, DecryptConfig: { Parameters: {} } },
        optsdata: b64(optsdata),
      },
      keyunwrapparams: { dc: null, annotation: null },
    }),
  );
const unwrapRequest = (packet: Uint8Array, more: Readonly<Record<string, unknown>> = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      op: "keyunwrap",
      keywrapparams: { ec: null, optsdata: null },
      keyunwrapparams: { dc: { Parameters: { "attestation-agent": ["Zm9vOjpiYXI="], ...more } }, annotation: b64(packet) },
    }),
  );
const packetOf = (reply: string): Buffer =>
  Buffer.from((JSON.parse(reply) as { keywrapresults: { annotation: number[] } }).keywrapresults.annotation);
const kidOf = (reply: string): string => (JSON.parse(packetOf(reply).toString()) as { kid: string }).kid;
const optionsOf = (reply: string): Buffer =>
  Buffer.from((JSON.parse(reply) as { keyunwrapresults: { optsdata: number[] } }).keyunwrapresults.optsdata);

describe("the key provider", () => {
  it("answers skopeo's own request, and opens what it wrapped", async () => {
    // Byte for byte what skopeo 1.22 sends for provider:attestation-agent:kbs:///default/image-key.
    const request = Buffer.from(
      `{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"attestation-agent":["a2JzOi8vL2RlZmF1bHQvaW1hZ2Uta2V5"]},"DecryptConfig":{"Parameters":{}}},"optsdata":"${b64(optsdata)}"},"keyunwrapparams":{"dc":null,"annotation":null}}`,
    );
    const mine = provider(memoryRegistry());
    const reply = await mine.answer(request);
    expect(reply).toMatch(/^\{"keywrapresults":\{"annotation":\[123,\d/);
    expect(kidOf(reply)).toMatch(/^kbs:\/\/\/default\/image-key\/fresh-\d+$/);
    expect(optionsOf(await mine.answer(unwrapRequest(packetOf(reply))))).toEqual(optsdata);
  });

  it("opens a packet of a known key, as skopeo 1.22 got it", async () => {
    const packet = Buffer.from(
      '{"kid":"kbs:///default/image-kek/kat","wrapped_data":"PCClYqiOp2Kve7Xc9ZAQFeeX03ymMS4KTiWJtDY5Z5lyIN6Mx4JlwS31T5/y9UJypT4ktTebnvgTtU5wf4aGmtIG5Am7sBRUKm6bVtjub9gKvP9TR1pmCcvLqq4ZwY7sqZ4/38Zy+nn8eQuGeRNHG94EVc2G8herLMti/bDWXDiOYDXx1bH6Zj7Uao0fuSWyXpGRWkVl+iXiLMpNgfCHgf30+zfT3aJV5jHt0YbN4NXqj7tkyOcVyTLomrBM+JWObnv+XCMSPXVctlp1rsl2ab4=","iv":"AAECAwQFBgcICQoL","wrap_type":"A256GCM"}',
    );
    const kek = Uint8Array.from({ length: 32 }, (_, position) => position);
    const broker = keksAtHand([{ uri: "kbs:///default/image-kek/kat", kek }]);
    const mine = provider(undefined, { unwrappers: async () => [brokerUnwrapper({ broker, name: "kat", reach: "local" })] });
    expect(optionsOf(await mine.answer(unwrapRequest(packet)))).toEqual(optsdata);
  });

  it("takes private options as JSON text, as ocicrypt-rs sends them, and as numbers", async () => {
    for (const form of [optsdata.toString(), [...optsdata]]) {
      const request = JSON.parse(wrapRequest(["kbs:///a/b"]).toString()) as { keywrapparams: { optsdata: unknown } };
      request.keywrapparams.optsdata = form;
      const mine = provider(memoryRegistry());
      const packet = packetOf(await mine.answer(Buffer.from(JSON.stringify(request))));
      expect(optionsOf(await mine.answer(unwrapRequest(packet)))).toEqual(optsdata);
    }
  });

  it("makes one key for all layers of a run, however many ask at once", async () => {
    const registry = memoryRegistry();
    const mine = provider(registry);
    const replies = await Promise.all(Array.from({ length: 20 }, () => mine.answer(wrapRequest(["kbs:///default/image-key"]))));
    expect(new Set(replies.map(kidOf)).size).toBe(1);
    expect(registry.made.size).toBe(1);
    // The key is one, the nonces are not.
    expect(new Set(replies.map((reply) => (JSON.parse(packetOf(reply).toString()) as { iv: string }).iv)).size).toBe(20);
  });

  it("makes another key after a pause, and after ten minutes without one", async () => {
    let now = 0;
    const mine = provider(memoryRegistry(), { now: () => now });
    const kids = new Set<string>();
    for (let minute = 0; minute < 30; minute += 1) {
      now = minute * 55_000;
      kids.add(kidOf(await mine.answer(wrapRequest(["kbs:///default/image-key"]))));
    }
    expect(kids.size).toBe(3);
    now += 61_000;
    kids.add(kidOf(await mine.answer(wrapRequest(["kbs:///default/image-key"]))));
    expect(kids.size).toBe(4);
  });

  it("shares a run's key between processes by its tag, and does without where it may not read", async () => {
    for (const [rights, kids] of [["read", 1] as const, ["create-only", 3] as const]) {
      const registry = memoryRegistry(rights);
      const replies: string[] = [];
      for (let layer = 0; layer < 3; layer += 1) {
        replies.push(await provider(registry, { runTag: () => "run" }).answer(wrapRequest(["kbs:///default/image-key"])));
      }
      expect(new Set(replies.map(kidOf)).size).toBe(kids);
      for (const reply of replies) expect(optionsOf(await provider(registry).answer(unwrapRequest(packetOf(reply))))).toEqual(optsdata);
    }
  });

  it("refuses a named key that it may not read, instead of replacing it", async () => {
    const registry = memoryRegistry("create-only");
    await provider(registry).answer(wrapRequest(["kbs:///default/key/app"]));
    await expect(provider(registry).answer(wrapRequest(["kbs:///default/key/app"]))).rejects.toMatchObject({
      code: "ERR_KEYPROVIDER_KEY_UNREADABLE",
    });
  });

  it("wraps nothing when the key is kept nowhere, and does not remember a failure", async () => {
    await expect(provider(undefined).answer(wrapRequest(["kbs:///a/b/c"]))).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_NO_REGISTRY" });
    const registry = memoryRegistry();
    let down = true;
    const mine = provider({
      ...registry,
      register: async (...call) => (down ? Promise.reject(new Error("down")) : registry.register(...call)),
    });
    await expect(mine.answer(wrapRequest(["kbs:///a/b/c"]))).rejects.toThrow("down");
    down = false;
    expect(kidOf(await mine.answer(wrapRequest(["kbs:///a/b/c"])))).toBe("kbs:///a/b/c");
  });

  it("registers a key file under its keyid, and refuses files where it was not told to read any", async () => {
    const registry = memoryRegistry();
    const kek = Buffer.alloc(32, 7);
    const parameter = ["keyid=/default/key/app::keypath=app.kek::algorithm=A256GCM"];
    const reply = await provider(registry, { readKeyFile: async () => kek }).answer(wrapRequest(parameter));
    expect(kidOf(reply)).toBe("kbs:///default/key/app");
    expect(registry.made.get("kbs:///default/key/app")).toEqual(kek);
    await expect(provider(registry).answer(wrapRequest(parameter))).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_KEY_FILE" });
    const short = provider(registry, { readKeyFile: async () => kek.subarray(1) });
    await expect(short.answer(wrapRequest(parameter))).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_KEY_FILE" });
  });

  it("uses the published sample key only where it was allowed", async () => {
    await expect(provider(undefined).answer(wrapRequest(["sample=true"]))).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_PARAMETER" });
    const mine = provider(undefined, { sample: "allowed" });
    const packet = packetOf(await mine.answer(wrapRequest(["sample"])));
    expect(optionsOf(await mine.answer(unwrapRequest(packet)))).toEqual(optsdata);
    await expect(provider(undefined).answer(unwrapRequest(packet))).rejects.toMatchObject({ code: "ERR_KEYWRAP_NO_KEY" });
  });

  it("never looks at the material of other recipients, and never says a secret", async () => {
    const secrets = { privkeys: [b64("-----BEGIN PRIVATE KEY-----")], "privkeys-passwords": "not even a list" };
    const events: ProviderEvent[] = [];
    const registry = memoryRegistry();
    const mine = provider(registry, { log: (event) => events.push(event) });
    const packet = packetOf(await mine.answer(wrapRequest(["kbs:///a/b"], secrets)));
    await mine.answer(unwrapRequest(packet, secrets));
    const said = JSON.stringify(events);
    expect(events.map(({ operation }) => operation)).toEqual(["wrap", "unwrap"]);
    for (const secret of ["WDyhxd", "PRIVATE", b64(Buffer.alloc(32, 1)).slice(0, 12)]) expect(said).not.toContain(secret);
    const broken = Buffer.from(packet.toString().replace(/"wrapped_data":"..../, '"wrapped_data":"AAAA'));
    await expect(mine.answer(unwrapRequest(broken))).rejects.toMatchObject({ code: "ERR_KEYWRAP_PACKET_DAMAGED" });
  });

  it("ends a call with its signal, and leaves the key to the others who wait for it", async () => {
    const registry = memoryRegistry();
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const mine = provider({ ...registry, register: async (...call) => gate.then(() => registry.register(...call)) });
    const leaving = new AbortController();
    const first = mine.answer(wrapRequest(["kbs:///a/b"]), { signal: leaving.signal });
    const second = mine.answer(wrapRequest(["kbs:///a/b"]));
    leaving.abort(new Error("left"));
    await expect(first).rejects.toThrow("left");
    release();
    expect(kidOf(await second)).toContain("kbs:///a/b/");
    expect(registry.made.size).toBe(1);
  });

  it.each([
    ["no JSON", "hello"],
    ["nothing", ""],
    ["an unknown op", '{"op":"keydestroy"}'],
    ["an op of the prototype", '{"op":"constructor"}'],
    ["a member twice", '{"op":"keywrap","op":"keyunwrap"}'],
    ["no parameters", `{"op":"keywrap","keywrapparams":{"ec":null,"optsdata":"e30="}}`],
    ["another provider's parameters", `{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"other":["YQ=="]}},"optsdata":"e30="}}`],
    ["no options", `{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"attestation-agent":["YQ=="]}},"optsdata":""}}`],
    ["unpadded base64", `{"op":"keyunwrap","keyunwrapparams":{"annotation":"YQ"}}`],
    ["numbers that are no bytes", `{"op":"keyunwrap","keyunwrapparams":{"annotation":[256]}}`],
    ["a deep document", `{"op":${"[".repeat(40)}${"]".repeat(40)}}`],
  ])("refuses %s", async (_what, text) => {
    await expect(provider(memoryRegistry()).answer(Buffer.from(text))).rejects.toMatchObject({ code: "ERR_KEYPROVIDER_REQUEST" });
  });

  it("refuses bytes of any other kind with an error of ours", async () => {
    const mine = provider(memoryRegistry());
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 300 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        async (bytes) => {
          await expect(mine.answer(bytes)).rejects.toMatchObject({ code: /^ERR_KEY/ });
        },
      ),
      { numRuns: 200 },
    );
  });

  it("refuses the other operation than the one called", async () => {
    await expect(provider(memoryRegistry()).answer(wrapRequest(["kbs:///a/b"]), { operation: "unwrap" })).rejects.toMatchObject({
      code: "ERR_KEYPROVIDER_REQUEST",
    });
  });
});

describe("the parameters of a recipient", () => {
  const place = (repository: string, type: string, tag?: string) => ({ repository, type, tag });

  it.each([
    [["Enabled"], { kind: "brokered", place: place("default", "image-kek") }],
    [["kbs:///default/image-key"], { kind: "brokered", place: place("default", "image-key") }],
    [["kbs://kbs.example:8080/a/b/c"], { kind: "brokered", place: place("a", "b", "c") }],
    [["kbs+resource:///a/b/c", "kbs+resource:///a/b/c"], { kind: "brokered", place: place("a", "b", "c") }],
    [["keyid=kbs:///a/b/c"], { kind: "brokered", place: place("a", "b", "c") }],
    [["keyid=/a/b/c::keypath=/k=1::sample=false"], { kind: "file", place: place("a", "b", "c"), path: "/k=1" }],
    [["sample=true"], { kind: "sample" }],
  ])("%j", (parameters, target) => {
    expect(parseWrapTarget(parameters)).toEqual(target);
  });

  it.each([
    ["kbs:///only"],
    ["kbs:///a/b/c/d"],
    ["kbs:///a/../c"],
    ["kbs:///a/b/c?x=1"],
    ["kbs+pkcs11:///a/b/c"],
    ["default/image-key"],
    ["keyid=kbs:///a/b/c::colour=blue"],
    ["keyid=kbs:///a/b/c::keyid=kbs:///a/b/d"],
    ["keyid=host/a/b/c"],
    ["keyid"],
    ["keypath="],
    ["algorithm=A256CTR::keyid=kbs:///a/b/c"],
    ["sample=yes"],
    ["sample=true::keyid=kbs:///a/b/c"],
    ["kbs:///a/b", "kbs:///a/c"],
  ])("%j and %j is refused", (...parameters) => {
    expect(() => parseWrapTarget(parameters.filter((text) => typeof text === "string"))).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^ERR_KEY(PROVIDER_PARAMETER|WRAP_KBS_URI_MALFORMED)$/) }),
    );
  });
});
