import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { createHash } from "node:crypto";
import { pack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { policyEngines } from "../../cli/policy-engines.ts";
import { digestOfOpaBundle, textOfOpaBundle, wasmPolicies, type WasmReleasePolicy } from "../../src/policy/index.ts";
import { handshake, raw, startBench, type Bench } from "../kbs/harness.ts";

const folder = join(import.meta.dirname, "wasm");
const bundle = (name: string): Buffer => readFileSync(join(folder, `${name}.tar.gz`));
const text = (name: string): string => bundle(name).toString("base64");
const policies = wasmPolicies();
afterAll(() => policies.close());

const measured = { submods: { cpu0: { "ear.veraison.annotated-evidence": { sample: { launch_digest: "abcde" } } } } };
const question = (claims: Readonly<Record<string, unknown>>, resourcePath = ["default", "image-key", "shop"], plugin = "resource") => ({
  plugin,
  resourcePath,
  query: {},
  claims,
  now: new Date("2026-05-05T05:05:05Z"),
});

/** A bundle of some files. */
async function tarOf(files: Readonly<Record<string, string | Buffer>>): Promise<string> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, Buffer.from(content));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return gzipSync(Buffer.concat(chunks)).toString("base64");
}

/** The compiled module inside a bundle: tar blocks of 512 bytes. */
function wasmOf(name: string): Buffer {
  const tar = gunzipSync(bundle(name));
  const header = tar.indexOf("/policy.wasm\0");
  const size = Number.parseInt(tar.toString("latin1", header + 124, header + 135), 8);
  return tar.subarray(header + 512, header + 512 + size);
}

describe("a release policy that OPA compiled", () => {
  let policy: WasmReleasePolicy;
  beforeAll(async () => {
    policy = await policies.compileRelease(text("release"), "app");
  });

  it("allows what its Rego allows, and says which rule denied, with the reasons that it gives", async () => {
    expect(await policy.evaluate(question(measured))).toEqual({ allow: true, reasons: ["the policy's rule allow is true"] });
    expect(await policy.evaluate(question({ submods: { cpu0: { launch_digest: "other" } } }))).toEqual({
      allow: false,
      reasons: ["the policy's rule allow is false", "device cpu0 has no measurement that is allowed"],
    });
    for (const other of [question(measured, ["default", "image-key", "Shop2"]), question(measured, undefined, "nebula-ca"), question({})])
      expect((await policy.evaluate(other)).allow).toBe(false);
  });

  it("knows the time that the service knows", async () => {
    expect((await policy.evaluate({ ...question(measured), now: new Date("2101-01-01") })).allow).toBe(false);
  });

  it("carries the digest of its bundle", () => {
    expect(policy.digest).toBe(`sha256:${createHash("sha256").update(bundle("release")).digest("hex")}`);
    expect(digestOfOpaBundle(text("release"))).toBe(policy.digest);
    expect(textOfOpaBundle(bundle("release"))).toBe(text("release"));
    expect(textOfOpaBundle(Buffer.from("package policy"))).toBeUndefined();
  });

  it("remembers nothing from one question to the next, and answers many at once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) => policy.evaluate(question(index % 3 === 0 ? measured : { submods: { [`d${index}`]: {} } }))),
    );
    for (const [index, { allow, reasons }] of answers.entries()) {
      const expected =
        index % 3 === 0
          ? { allow: true, reasons: ["the policy's rule allow is true"] }
          : { allow: false, reasons: ["the policy's rule allow is false", `device d${index} has no measurement that is allowed`] };
      expect({ allow, reasons }).toEqual(expected);
    }
  });
});

describe("a compiled policy that does not end well", () => {
  it("denies when it takes too long, and others go on in a new thread", async () => {
    const hasty = wasmPolicies({ timeLimitMs: 300 });
    const endless = await hasty.compileRelease(text("endless"));
    const release = await hasty.compileRelease(text("release"));
    const [first, second, third] = await Promise.all([
      endless.evaluate(question({})),
      endless.evaluate(question({})),
      release.evaluate(question(measured)),
    ]);
    expect(first).toEqual({ allow: false, reasons: ["the compiled policy failed: it took longer than 300 ms"] });
    expect(second.allow).toBe(false);
    expect(third.allow).toBe(true);
    await hasty.close();
  });

  it("denies when it takes more memory than it may, and answers the next question", async () => {
    const greedy = await policies.compileRelease(text("greedy"));
    expect(await greedy.evaluate(question({}))).toEqual({ allow: false, reasons: ["the compiled policy failed: opa_malloc: failed"] });
    const release = await policies.compileRelease(text("release"));
    expect((await release.evaluate(question({ ...measured, filler: "x".repeat(1 << 20) }))).allow).toBe(true);
    expect((await release.evaluate(question({ ...measured, filler: "x".repeat(34 << 20) }))).allow).toBe(false);
    expect((await release.evaluate(question(measured))).allow).toBe(true);
  });

  it("keeps a process no longer than an answer is awaited", () => {
    const script = `
      const { readFileSync } = await import("node:fs");
      const { wasmPolicies } = await import(${JSON.stringify(join(import.meta.dirname, "../../src/policy/index.ts"))});
      const policy = await wasmPolicies().compileRelease(readFileSync(${JSON.stringify(join(folder, "release.tar.gz"))}, "base64"));
      process.stdout.write(policy.digest);`;
    const ended = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8", timeout: 30_000 });
    expect(ended).toMatchObject({ status: 0, stdout: digestOfOpaBundle(text("release")) });
  });

  it("denies once its threads are gone", async () => {
    const gone = wasmPolicies();
    const endless = await gone.compileRelease(text("endless"));
    const answer = endless.evaluate(question({}));
    await gone.close();
    expect(await answer).toMatchObject({ allow: false, reasons: [expect.stringContaining("the compiled policy failed")] });
  });
});

it("has V8 keep the code that threads share before it starts the first", async () => {
  // In some Node.js it is freed twice otherwise; that cannot be had on demand.
  const setFlagsFromString = vi.fn();
  vi.doMock("node:v8", () => ({ setFlagsFromString }));
  vi.resetModules();
  const { wasmPolicies: withSpy } = await import("../../src/policy/index.ts");
  vi.doUnmock("node:v8");
  const watched = withSpy();
  await watched.compileRelease(text("release"), "app");
  await watched.close();
  expect(setFlagsFromString).toHaveBeenCalledWith("--no-wasm-code-gc");
});

describe("an attestation policy that OPA compiled", () => {
  const ask = async (references: Readonly<Record<string, unknown>>, claims: unknown = { launch_digest: "abcde", svn: "1" }) => {
    const policy = await policies.compileAppraisal(text("appraisal"));
    return policy.appraise({ input: { sample: claims }, now: new Date(), referenceValue: (name) => references[name] });
  };

  it("looks up the reference values that it names, and gives claims and extensions", async () => {
    expect(await ask({ launch_digest: ["abcde"], svn: ["1"] })).toEqual({
      vector: { executables: 3, hardware: 2, configuration: 36 },
      reasons: ["the policy gives configuration the value 36"],
      extensions: { "ociseal.seen": { tee: ["sample"] } },
    });
    expect((await ask({ svn: ["2"] })).vector).toEqual({ hardware: 97, configuration: 36 });
    expect((await ask({})).reasons).toHaveLength(2);
  });

  it("is no release policy, nor the other way round", async () => {
    await expect(policies.compileRelease(text("appraisal"))).rejects.toMatchObject({
      code: "ERR_POLICY_NOT_UNDERSTOOD",
      message: expect.stringContaining("no entrypoint policy/allow but policy/"),
    });
    await expect(policies.compileAppraisal(text("release"))).rejects.toThrow("no entrypoint policy/trust_claims");
  });
});

describe("a bundle that is refused", () => {
  const wasm = wasmOf("release");
  const manifest = JSON.stringify({ wasm: [{ entrypoint: "policy/allow", module: "/policy.wasm" }] });

  it("is one thing for the control: the module in a bundle of our own making is taken", async () => {
    const policy = await policies.compileRelease(
      await tarOf({ "./policy.wasm": wasm, "data.json": '{"measurements":["abcde"],"level":0}', ".manifest": manifest }),
    );
    expect((await policy.evaluate(question(measured))).allow).toBe(true);
  });

  it.each<readonly [string, () => string | Promise<string>, string]>([
    ["no base64", () => "%%%", "not base64"],
    ["no gzip", () => Buffer.from("package policy").toString("base64"), "not a tar.gz"],
    ["a cut gzip", () => bundle("release").subarray(0, 60_000).toString("base64"), "cannot be unpacked"],
    ["no tar", () => gzipSync("x".repeat(5000)).toString("base64"), "no tar"],
    ["a cut tar", () => gzipSync(gunzipSync(bundle("release")).subarray(0, 100_000)).toString("base64"), "no tar"],
    ["a bomb", () => gzipSync(Buffer.alloc(20 << 20)).toString("base64"), "cannot be unpacked"],
    ["too large", () => Buffer.concat([bundle("release"), Buffer.alloc(800_000)]).toString("base64"), "at most"],
    ["no module", () => tarOf({ "data.json": "{}" }), "no policy.wasm"],
    ["a module twice", () => tarOf({ "policy.wasm": wasm, "/policy.wasm": wasm }), "twice"],
    ["no WebAssembly", () => tarOf({ "policy.wasm": "hello" }), "not WebAssembly"],
    ["an empty module", () => tarOf({ "policy.wasm": Buffer.from("0061736d01000000", "hex") }), "has no opa_eval"],
    ["a module that wants WASI", () => tarOf({ "policy.wasm": wasiModule() }), "wants wasi_snapshot_preview1.fd_write"],
    ["a signed one", () => tarOf({ "policy.wasm": wasm, "/.signatures.json": "{}" }), "signed"],
    ["data that is no object", () => tarOf({ "policy.wasm": wasm, "data.json": "[]" }), "not an object"],
    ["data twice in one object", () => tarOf({ "policy.wasm": wasm, "data.json": '{"a":1,"a":2}' }), "data.json is not usable"],
    [
      "data in the place of the service's",
      () => tarOf({ "policy.wasm": wasm, "data.json": '{"resource-path":[]}' }),
      "the service says itself",
    ],
    ["another module", () => tarOf({ "policy.wasm": wasm, ".manifest": '{"wasm":[{"module":"/other.wasm"}]}' }), "another module"],
    ["too many entries", () => tarOf(Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`f${i}`, ""]))), "more than 1000 entries"],
    ["a function that nothing offers", () => text("strange"), "calls http.send"],
  ])("%s", async (_what, make, why) => {
    await expect(policies.compileRelease(await make())).rejects.toMatchObject({
      code: "ERR_POLICY_NOT_UNDERSTOOD",
      message: expect.stringContaining(why),
    });
  });

  it("flipped bits never allow: the module is refused, fails, or denies", async () => {
    const data = '{"measurements":[],"level":0}';
    for (let round = 0; round < 12; round += 1) {
      const damaged = Buffer.from(wasm);
      const at = Math.floor((damaged.length / 12) * round) + 8;
      damaged[at] = (damaged[at] ?? 0) ^ 0x41;
      const outcome = await policies
        .compileRelease(await tarOf({ "policy.wasm": damaged, "data.json": data }))
        .then((policy) => policy.evaluate(question({})))
        .catch((error: { code: string }) => ({ allow: false, code: error.code }));
      expect(outcome.allow).toBe(false);
    }
  });
});

/** `(module (import "wasi_snapshot_preview1" "fd_write" (func)))`. */
function wasiModule(): Buffer {
  const name = (value: string) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  const entry = Buffer.concat([Buffer.of(1), name("wasi_snapshot_preview1"), name("fd_write"), Buffer.of(0, 0)]);
  return Buffer.concat([Buffer.from("0061736d01000000", "hex"), Buffer.of(1, 4, 1, 0x60, 0, 0), Buffer.of(2, entry.length), entry]);
}

describe("a service with compiled policies", () => {
  let bench: Bench;
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "kbs-wasm-"));
    bench = await startBench({ policyEngines, audit: { directory: join(directory, "audit") } });
  });
  afterAll(async () => {
    await bench.close();
    await rm(directory, { recursive: true });
  });

  it("takes them for releases and for appraisal, with their digests in the audit", async () => {
    const { admin, server } = bench;
    const headers = { authorization: `Bearer ${server.adminToken}` };
    await raw(`${server.url}/api/v1/keys`, { body: { path: "default/image-key/shop" }, headers });
    await admin.policies.put({ id: "compiled", language: "wasm", text: text("release"), resources: "default/image-key/*" });
    await admin.attestationPolicies.put({ id: "default_cpu", language: "wasm", text: text("appraisal") });
    expect((await admin.policies.get("compiled")).text).toBe(text("release"));
    const digest = digestOfOpaBundle(text("release"));
    expect(await admin.policies.list()).toMatchObject([{ id: "compiled", language: "wasm", digest }]);
    await admin.references.set({ launch_digest: ["abcde"], svn: ["1"] });
    const { token } = await handshake(server.url);
    expect(
      (await raw(`${server.url}/kbs/v0/resource/default/image-key/shop`, { headers: { authorization: `Bearer ${token}` } })).status,
    ).toBe(200);
    const trial = await admin.policies.evaluate({ resource: "default/image-key/shop", claims: { submods: { cpu0: {} } } });
    expect(trial).toMatchObject({
      allow: false,
      policy: "compiled",
      digest,
      reasons: expect.arrayContaining(["device cpu0 has no measurement that is allowed"]),
    });
    const records = (await raw(`${server.url}/api/v1/audit?last=20`, { headers })).text;
    expect(records).toContain(`compiled ${digest}`);
    expect(records).toContain(`default_cpu ${digestOfOpaBundle(text("appraisal"))}`);
    const payload = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as Record<string, unknown>;
    expect(JSON.stringify(payload)).toContain('"executables":3');
  });

  it("refuses others at upload, and changes nothing", async () => {
    const before = await bench.admin.policies.list();
    await expect(bench.admin.policies.put({ id: "compiled", language: "wasm", text: text("strange") })).rejects.toMatchObject({
      code: "ERR_KBS_REQUEST_REFUSED",
      message: expect.stringContaining("http.send"),
    });
    expect(await bench.admin.policies.list()).toEqual(before);
  });

  it("reads a file by how it begins", async () => {
    const file = join(directory, "bundle");
    await writeFile(file, bundle("release"));
    expect(textOfOpaBundle(readFileSync(file))).toBe(text("release"));
  });
});
