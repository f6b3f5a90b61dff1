import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { digestOf, encodedOf, type Digest } from "../../src/bytes/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, startServer } from "./run.ts";

interface Layer {
  mediaType: string;
  digest: Digest;
  size: number;
  annotations?: Record<string, string>;
}

const publicOptions = "org.opencontainers.image.enc.pubopts";
const folder = mkdtempSync(join(tmpdir(), "ociseal-bad-input-"));
const temporary = join(folder, "tmp");
const env = { TMPDIR: temporary };
let registry: Awaited<ReturnType<typeof startServer>>;
let host: string;

const run = (...args: readonly string[]) => ociseal(args, { cwd: folder, env });

async function done(...args: readonly string[]): Promise<void> {
  const outcome = await run(...args);
  expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
}

beforeAll(async () => {
  mkdirSync(temporary);
  const layout = await openLayout({ path: join(folder, "plain"), mode: "write", durability: "none" });
  const noise = (n: number) =>
    Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i * n + (i >> 3) * 7 + ((i * 2_654_435_761) >>> 11)) & 255));
  const layer = (n: number) => ({ entries: [{ kind: "file" as const, path: `f${n}`, content: noise(n) }], compression: "none" as const });
  await pushImage(layout, await makeImage({ layers: [layer(1), layer(3), layer(5)] }), "app");
  await layout.close();
  registry = await startServer(["registry", "serve", "--listen", "127.0.0.1:0"], { cwd: folder });
  host = (registry.ready["listening"] ?? "").replace("http://", "");
  await done("key", "generate", "ec", "--out", "team");
  await done("key", "generate", "ec", "--out", "stray");
  await done("copy", "oci:plain", `${host}/target:1`);
  for (const cipher of ["aes-256-gcm", "aes-256-ctr-hmac-sha256"])
    await done("encrypt", "oci:plain", `oci:${cipher}`, "-r", "jwe:team.pub", "--cipher", cipher);
}, 60_000);
afterAll(async () => {
  await registry.stop();
  rmSync(folder, { recursive: true });
});

const blob = (digest: Digest) => join(folder, "bad/blobs/sha256", encodedOf(digest));

function put(bytes: Buffer): { digest: Digest; size: number } {
  const digest = digestOf(bytes);
  writeFileSync(blob(digest), bytes);
  return { digest, size: bytes.length };
}

/** An attacker who may write anything to the registry: digests are right again after the change. */
function tamper(cipher: string, change: (layers: Layer[]) => void): void {
  rmSync(join(folder, "bad"), { recursive: true, force: true });
  cpSync(join(folder, cipher), join(folder, "bad"), { recursive: true });
  const indexFile = join(folder, "bad/index.json");
  const index = JSON.parse(readFileSync(indexFile, "utf8")) as { manifests: Layer[] };
  const manifest = JSON.parse(readFileSync(blob(index.manifests[0]?.digest ?? "sha256:"), "utf8")) as { layers: Layer[] };
  change(manifest.layers);
  Object.assign(index.manifests[0] ?? {}, put(Buffer.from(JSON.stringify(manifest))));
  writeFileSync(indexFile, JSON.stringify(index));
}

const bytesOf = (change: (bytes: Buffer) => Buffer) => (layers: Layer[]) =>
  void Object.assign(layers[2] ?? {}, put(change(readFileSync(blob(layers[2]?.digest ?? "sha256:")))));
const optionsOf = (change: (options: { cipher: string; cipheroptions: object }) => void) => (layers: Layer[]) => {
  const annotations = layers[1]?.annotations ?? {};
  const options = JSON.parse(Buffer.from(annotations[publicOptions] ?? "", "base64").toString()) as {
    cipher: string;
    cipheroptions: object;
  };
  change(options);
  annotations[publicOptions] = Buffer.from(JSON.stringify(options)).toString("base64");
};
const typeOf = (change: (mediaType: string) => string) => (layers: Layer[]) => {
  const [, layer] = layers;
  if (layer !== undefined) layer.mediaType = change(layer.mediaType);
};

/** The header of a chunked layer, and each chunk with its tag. */
const header = 56;
const chunk = 16_400;
const damaged = /^ERR_CIPHER_(CHUNK|SEGMENT)_DAMAGED$/;
const cases: readonly (readonly [string, (layers: Layer[]) => void, RegExp])[] = [
  ["a flipped bit", bytesOf((bytes) => bytes.fill((bytes[99_999] ?? 0) ^ 1, 99_999, 100_000)), damaged],
  ["a cut layer", bytesOf((bytes) => bytes.subarray(0, bytes.length - chunk)), damaged],
  ["an extended layer", bytesOf((bytes) => Buffer.concat([bytes, Buffer.alloc(chunk)])), damaged],
  [
    "re-ordered chunks",
    bytesOf((bytes) =>
      Buffer.concat([
        bytes.subarray(0, header),
        bytes.subarray(header + chunk, header + 2 * chunk),
        bytes.subarray(header, header + chunk),
        bytes.subarray(header + 2 * chunk),
      ]),
    ),
    damaged,
  ],
  [
    "swapped blobs",
    (layers) => {
      const [first, second] = [layers[1]?.digest, layers[2]?.digest];
      Object.assign(layers[1] ?? {}, { digest: second });
      Object.assign(layers[2] ?? {}, { digest: first });
    },
    /^ERR_CIPHER_(COMMITMENT_MISMATCH|SEGMENT_DAMAGED)$/,
  ],
  ["re-ordered layers", (layers) => void layers.push(...layers.splice(1, 1)), /^ERR_(GUEST_)?DIFF_ID_MISMATCH$/],
  ["an unknown cipher", optionsOf((options) => (options.cipher = "AES_128_ECB")), /^ERR_CIPHER_UNKNOWN$/],
  ["a public nonce", optionsOf((options) => Object.assign(options.cipheroptions, { nonce: "AAAA" })), /^ERR_CIPHER_PUBLIC_NONCE$/],
  ["an unknown media type", typeOf(() => "application/vnd.example.layer.v1.tar+encrypted"), /^ERR_LAYER_MEDIA_TYPE$/],
  ["annotations without +encrypted", typeOf((type) => type.replace("+encrypted", "")), /^ERR_LAYER_MARK_MISSING$/],
  ["+encrypted without annotations", (layers) => void delete layers[1]?.annotations, /^ERR_LAYER_ANNOTATIONS_MISSING$/],
];

/** The command is refused with this code, and nothing of it is left: no target, no moved tag, no temporary file. */
async function expectRefused(source: string, key: string, code: RegExp, status: number): Promise<void> {
  const tag = async () => (await fetch(`http://${host}/v2/target/manifests/1`, { method: "HEAD" })).headers.get("docker-content-digest");
  const before = await tag();
  for (const args of [
    ["decrypt", source, "oci:out", "-k", key],
    ["decrypt", source, `${host}/target:1`, "-k", key],
    ["pull", source, "out", "-k", key, "--insecure-accept-unsigned"],
  ]) {
    const { status: exit, stdout } = await run(...args, "--json", "--quiet");
    const { error } = JSON.parse(stdout) as { error: { code: string; hint?: string } };
    expect(error.code, args.join(" ")).toMatch(code);
    expect(error.hint).toBeTruthy();
    expect(exit).toBe(status);
    expect(existsSync(join(folder, "out"))).toBe(false);
  }
  expect(before).toMatch(/^sha256:/);
  expect(await tag()).toBe(before);
  expect(readdirSync(temporary)).toEqual([]);
  expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
}

describe.each(["aes-256-gcm", "aes-256-ctr-hmac-sha256"])("an image encrypted with %s, from a registry that lies", (cipher) => {
  it.each(cases)("is refused for %s, and leaves nothing", async (_what, change, code) => {
    tamper(cipher, change);
    await expectRefused("oci:bad", "team.key", code, 6);
  });

  it("is refused with a wrong key, and leaves nothing", async () => {
    await expectRefused(`oci:${cipher}`, "stray.key", /^ERR_KEYWRAP_NO_KEY$/, 7);
  });
});
