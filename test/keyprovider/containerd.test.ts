import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, type Writable } from "node:stream";
import { gzipSync, zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { parse as parseToml } from "smol-toml";
import { afterAll, describe, expect, it } from "vitest";
import { compose, digestOf } from "../../src/bytes/index.ts";
import type { CipherName } from "../../src/cipher/index.ts";
import { containerdConfig, decodeLayer, parsePayload } from "../../src/keyprovider/index.ts";
import {
  jweWrapper,
  kbsWrapper,
  parsePrivateKey,
  parsePublicKey,
  privateKeyUnwrapper,
  type KeyUnwrapper,
  type KeyWrapper,
} from "../../src/keywrap/index.ts";
import { sealLayer } from "../../src/layer/index.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { cleanEnvironment, program } from "../cli/run.ts";
import { startBench } from "../kbs/harness.ts";
import { ec } from "../keywrap/keys.ts";

const folder = mkdtempSync(join(tmpdir(), "ociseal-ctd-"));
afterAll(() => rmSync(folder, { recursive: true }));

const key = ec("P-256");
const privatePem = key.export({ type: "pkcs8", format: "pem" }).toString();
const unwrappers: readonly KeyUnwrapper[] = [privateKeyUnwrapper([parsePrivateKey(Buffer.from(privatePem))])];
const tar = randomBytes(700_000);
const plain = gzipSync(tar);

interface Sealed {
  readonly descriptor: Descriptor;
  readonly blob: Buffer;
}

const publicJwk = JSON.stringify(key.export({ format: "jwk" }), (name, value: unknown) => (name === "d" ? undefined : value));
const recipient = jweWrapper({ publicKey: parsePublicKey(Buffer.from(publicJwk)) });

async function seal(
  cipher: CipherName,
  content: Buffer = plain,
  compression: "gzip" | "zstd" = "gzip",
  wrapper: KeyWrapper = recipient,
): Promise<Sealed> {
  const layer = { mediaType: `application/vnd.oci.image.layer.v1.tar+${compression}`, digest: digestOf(content), size: content.length };
  const sealing = await sealLayer({ layer, cipher, wrappers: [wrapper] });
  const blob = await read(compose(Readable.from([content]), sealing.stage));
  return { descriptor: await sealing.finish({ digest: digestOf(blob), size: blob.length }), blob };
}

async function read(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What came out, and how it ended. */
async function decode(
  { descriptor, blob }: Sealed,
  more: { readonly mediaType?: string } = {},
): Promise<{ readonly bytes: Buffer; readonly code: string | undefined }> {
  const chunks: Uint8Array[] = [];
  try {
    const stream = await decodeLayer({
      layer: descriptor,
      mediaType: more.mediaType,
      source: Readable.from(pieces(blob), { objectMode: false }),
      unwrappers,
      spoolFolder: folder,
    });
    for await (const chunk of stream) chunks.push(chunk as Uint8Array);
    return { bytes: Buffer.concat(chunks), code: undefined };
  } catch (error) {
    return { bytes: Buffer.concat(chunks), code: (error as { code?: string }).code ?? String(error) };
  }
}

function pieces(blob: Buffer): readonly Buffer[] {
  return Array.from({ length: Math.ceil(blob.length / 10_000) }, (_, n) => blob.subarray(n * 10_000, (n + 1) * 10_000));
}

const payload = (descriptor: unknown, parameters: unknown = null, type = "io.containerd.ocicrypt.v1.Payload"): Buffer => {
  const json = JSON.stringify({ DecryptConfig: { Parameters: parameters }, Descriptor: descriptor });
  return Buffer.concat([field(1, Buffer.from(type)), field(2, Buffer.from(json))]);
};

function field(number: number, value: Buffer): Buffer {
  const head = [number * 8 + 2];
  let rest = value.length;
  for (; rest >= 128; rest >>= 7) head.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...head, rest]), value]);
}

const ciphers = ["AES_256_GCM_C2SP_CHUNKED_V1", "AES_256_CTR_HMAC_SHA256"] as const;

describe.each(ciphers)("a layer of %s", (cipher) => {
  it("comes out whole, and leaves no spool", async () => {
    const sealed = await seal(cipher);
    const { bytes, code } = await decode(sealed, { mediaType: sealed.descriptor.mediaType });
    expect(code).toBeUndefined();
    expect(bytes.equals(plain)).toBe(true);
    expect(readdirSync(folder).filter((name) => name.endsWith(".spool"))).toEqual([]);
  });

  it("without segment tags, as other tools write it, comes out whole or not at all", async () => {
    const sealed = withoutTags(await seal(cipher));
    expect((await decode(sealed)).bytes.equals(plain)).toBe(true);
    const flipped = flip(sealed, sealed.blob.length - 20);
    const { bytes, code } = await decode(flipped);
    expect(code).toMatch(/^ERR_(CIPHER|CONTENT)_/);
    // One MAC over everything: not a byte leaves before it was verified.
    expect(bytes.length).toBeLessThan(cipher === "AES_256_CTR_HMAC_SHA256" ? 1 : plain.length);
  });

  it("that was changed anywhere ends in an error with its last piece missing, and only true bytes before it", async () => {
    const sealed = await seal(cipher);
    await fc.assert(
      fc.asyncProperty(fc.nat(sealed.blob.length - 1), fc.constantFrom("flip", "cut", "append", "lie"), async (at, how) => {
        const changed = how === "flip" ? flip(sealed, at) : { ...sealed, blob: how === "cut" ? sealed.blob.subarray(0, at) : sealed.blob };
        const appended = how === "append" ? { ...sealed, blob: Buffer.concat([sealed.blob, Buffer.of(at & 255)]) } : changed;
        // A descriptor that was changed to fit: the digest no longer tells, the cipher must.
        const lying = { ...flip(sealed, at).descriptor, digest: digestOf(flip(sealed, at).blob) };
        const { bytes, code } = await decode(how === "lie" ? { blob: flip(sealed, at).blob, descriptor: lying } : appended);
        expect(code).toMatch(/^ERR_(CIPHER|CONTENT)_/);
        expect(bytes.length).toBeLessThan(plain.length);
        expect(bytes.equals(plain.subarray(0, bytes.length))).toBe(true);
      }),
      { numRuns: 25 },
    );
  });

  it("is refused before a byte is read when no key opens it, or containerd announced another type", async () => {
    const sealed = await seal(cipher);
    const source = Readable.from([sealed.blob]);
    const nobody = decodeLayer({ layer: sealed.descriptor, mediaType: undefined, source, unwrappers: [], spoolFolder: folder });
    await expect(nobody).rejects.toMatchObject({ code: "ERR_KEYWRAP_NO_KEY" });
    expect(source.destroyed).toBe(true);
    expect((await decode(sealed, { mediaType: "application/vnd.oci.image.layer.v1.tar+encrypted" })).code).toBe("ERR_KEYPROVIDER_PAYLOAD");
  });
});

/** Drops our public options, as a tool that does not know them would. */
function withoutTags({ descriptor, blob }: Sealed): Sealed {
  const name = "org.opencontainers.image.enc.pubopts";
  const options = JSON.parse(Buffer.from(descriptor.annotations?.[name] ?? "", "base64").toString()) as { cipher: string; hmac: string };
  const text = Buffer.from(JSON.stringify({ cipher: options.cipher, hmac: options.hmac, cipheroptions: {} })).toString("base64");
  return { blob, descriptor: { ...descriptor, annotations: { ...descriptor.annotations, [name]: text } } };
}

function flip({ descriptor, blob }: Sealed, at: number): Sealed {
  const changed = Buffer.from(blob);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return { descriptor, blob: changed };
}

describe("what containerd hands over", () => {
  const descriptor = { mediaType: "a/b", digest: `sha256:${"0".repeat(64)}`, size: 3, annotations: { a: "b" } };

  it("is read with the keys that a client sent along", () => {
    const parameters = {
      privkeys: [Buffer.from("one").toString("base64"), Buffer.from("two").toString("base64")],
      "privkeys-passwords": [null, "cHc="],
    };
    const { keys, descriptor: found } = parsePayload(payload(descriptor, parameters));
    expect(found).toEqual(descriptor);
    expect(
      keys.map(({ bytes, password }) => [
        Buffer.from(bytes).toString(),
        password === undefined ? undefined : Buffer.from(password).toString(),
      ]),
    ).toEqual([
      ["one", undefined],
      ["two", "pw"],
    ]);
    expect(parsePayload(payload(descriptor)).keys).toEqual([]);
  });

  it.each([
    ["nothing", Buffer.alloc(0)],
    ["another type", payload(descriptor, null, "io.containerd.other.v1.Payload")],
    ["no content", field(1, Buffer.from("io.containerd.ocicrypt.v1.Payload"))],
    ["a cut message", payload(descriptor).subarray(0, 60)],
    ["passwords for other keys", payload(descriptor, { privkeys: [], "privkeys-passwords": ["cHc="] })],
    ["keys that are not base64", payload(descriptor, { privkeys: ["%"] })],
  ])("is refused when it is %s", (_what, bytes) => {
    expect(() => parsePayload(bytes)).toThrow(expect.objectContaining({ code: "ERR_KEYPROVIDER_PAYLOAD" }));
  });

  it("is refused with an error of ours whatever it is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => parsePayload(bytes)).toThrow(expect.objectContaining({ code: expect.stringMatching(/^ERR_/) }));
      }),
    );
  });
});

describe("containerd's configuration", () => {
  it("lists zstd where containerd hands descriptions over, and survives odd paths", () => {
    for (const version of [2, 3] as const) {
      const args = ["--decryption-keys-path", '/etc/"keys"\\\u007f'];
      const text = containerdConfig({ command: ["/usr/bin/node", "/opt/ociseal.js"], args, env: { A: "b" }, version });
      const config = parseToml(text) as unknown as {
        version: number;
        plugins: Readonly<Record<string, { image_decryption: { key_model: string } }>>;
        stream_processors: Readonly<Record<string, { accepts: string[]; path: string; args: string[]; env: string[] }>>;
      };
      expect(config.version).toBe(version);
      expect(Object.values(config.plugins)[0]?.image_decryption.key_model).toBe("node");
      // Source: imgcrypt payload.go: only these two get a payload.
      expect(Object.keys(config.stream_processors)).toEqual([
        "io.containerd.ocicrypt.decoder.v1.tar.gzip",
        "io.containerd.ocicrypt.decoder.v1.tar",
      ]);
      const gzip = config.stream_processors["io.containerd.ocicrypt.decoder.v1.tar.gzip"];
      expect(gzip?.accepts).toContain("application/vnd.oci.image.layer.v1.tar+zstd+encrypted");
      expect(gzip).toMatchObject({ path: "/usr/bin/node", args: ["/opt/ociseal.js", "ctd-decoder", ...args], env: ["A=b"] });
    }
  });
});

describe("ociseal ctd-decoder", () => {
  interface Run {
    readonly status: number;
    readonly out: Buffer;
    readonly errors: string;
  }

  /** Starts the decoder as containerd does: payload on descriptor 3. */
  async function run(
    args: readonly string[],
    input: Buffer,
    description: Buffer | undefined,
    env: Readonly<Record<string, string>> = {},
  ): Promise<Run> {
    const child = spawn(process.execPath, [program, "ctd-decoder", ...args], {
      env: cleanEnvironment({ TMPDIR: folder, ...env }),
      stdio: ["pipe", "pipe", "pipe", ...(description === undefined ? [] : (["pipe"] as const))],
    });
    const [stdin, stdout, stderr, third] = child.stdio as unknown as [Writable, Readable, Readable, Writable | undefined];
    for (const sink of [stdin, third]) sink?.on("error", () => undefined);
    third?.end(description);
    stdin.end(input);
    const ended = new Promise<number>((resolve) => child.once("close", (code) => resolve(code ?? -1)));
    const [out, errors] = await Promise.all([read(stdout), read(stderr)]);
    return { status: await ended, out, errors: errors.toString() };
  }

  const keys = join(folder, "keys");
  mkdirSync(join(keys, "..data"), { recursive: true });
  writeFileSync(join(keys, "..data", "node.pem"), privatePem);
  symlinkSync(join("..data", "node.pem"), join(keys, "node.pem"));
  writeFileSync(join(keys, "README"), "not a key");
  symlinkSync("/etc/hostname", join(keys, "outside"));

  it.each(ciphers)("decrypts %s with the keys of a mounted folder", async (cipher) => {
    const { descriptor, blob } = await seal(cipher);
    const env = { STREAM_PROCESSOR_MEDIATYPE: descriptor.mediaType };
    const { status, out, errors } = await run(["--decryption-keys-path", keys], blob, payload(descriptor), env);
    expect(status, errors).toBe(0);
    expect(out.equals(plain)).toBe(true);
    expect(errors).toContain("outside leads out of");
  });

  it("decrypts a zstd layer with the key that the client sent along", async () => {
    const zstd = zstdCompressSync(tar);
    const { descriptor, blob } = await seal("AES_256_CTR_HMAC_SHA256", zstd, "zstd");
    const parameters = { privkeys: [Buffer.from(privatePem).toString("base64")], "privkeys-passwords": [""] };
    const { status, out, errors } = await run([], blob, payload(descriptor, parameters));
    expect(status, errors).toBe(0);
    expect(out.equals(zstd)).toBe(true);
  });

  it("attests to the KBS for a layer whose key it keeps", async () => {
    const bench = await startBench();
    try {
      const { uri, key: kek } = await bench.admin.registerKey("kbs:///default/image-key/ctd");
      const { descriptor, blob } = await seal("AES_256_GCM_C2SP_CHUNKED_V1", plain, "gzip", kbsWrapper({ uri, kek }));
      const { status, out, errors } = await run(["--tee", "sample"], blob, payload(descriptor), { OCISEAL_KBS_URL: bench.server.url });
      expect(status, errors).toBe(0);
      expect(out.equals(plain)).toBe(true);
    } finally {
      await bench.close();
    }
  });

  it("needs neither KBS nor TEE where a key at hand opens the layer", async () => {
    const { descriptor, blob } = await seal("AES_256_CTR_HMAC_SHA256");
    const args = ["--decryption-keys-path", keys, "--kbs", "http://127.0.0.1:1", "--tee", "tdx", "--tsm-path", join(folder, "nothing")];
    const { status, out, errors } = await run(args, blob, payload(descriptor));
    expect(status, errors).toBe(0);
    expect(out.equals(plain)).toBe(true);
  });

  it("prints a configuration that starts it again with the same settings", async () => {
    const args = ["--decryption-keys-path", keys, "--kbs", "http://kbs:8080", "--plain-http", "kbs:8080", "--tee", "tdx"];
    const printed = await run(["--print-config", "--containerd", "2", ...args], Buffer.alloc(0), undefined);
    expect(printed.status, printed.errors).toBe(0);
    const config = parseToml(printed.out.toString()) as unknown as {
      version: number;
      stream_processors: Readonly<Record<string, { path: string; args: string[] }>>;
    };
    expect(config.version).toBe(3);
    for (const { path, args: found } of Object.values(config.stream_processors)) {
      expect(path).toBe(process.execPath);
      expect(found.slice(0, 2)).toEqual([program, "ctd-decoder"]);
      expect(found.slice(2).toSorted()).toEqual(args.toSorted());
    }
  });

  it("fails without a description, without a key, and for a changed blob, of which no end comes out", async () => {
    const sealed = await seal("AES_256_CTR_HMAC_SHA256");
    const missing = await run(["--decryption-keys-path", keys], sealed.blob, undefined);
    expect(missing).toMatchObject({ status: 2, errors: expect.stringContaining("ERR_KEYPROVIDER_PAYLOAD_MISSING") });
    expect(await run([], sealed.blob, payload(sealed.descriptor))).toMatchObject({ status: 7, out: Buffer.alloc(0) });
    const changed = await run(["--decryption-keys-path", keys], flip(sealed, 9).blob, payload(withoutTags(sealed).descriptor));
    expect(changed).toMatchObject({ status: 6, out: Buffer.alloc(0) });
  });
});
