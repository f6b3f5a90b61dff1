import { createPublicKey, randomBytes, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKey } from "openpgp";
import { afterAll, describe, expect, it } from "vitest";
import {
  brokerUnwrapper,
  jweWrapper,
  kbsWrapper,
  keksAtHand,
  parsePrivateKey,
  parsePublicKey,
  pgpWrapper,
  pkcs7Wrapper,
  privateKeyUnwrapper,
  type KeyUnwrapper,
  type KeyWrapper,
} from "../../src/keywrap/index.ts";
import { openLayer, sealLayer } from "../../src/layer/index.ts";
import { missingPeers } from "../peers.ts";
import { openerOf, read } from "../cipher/bytes.ts";
import { rsaCertificatePem } from "../keywrap/certificate.ts";
import { ec, rsa } from "../keywrap/keys.ts";
import { addBlob, plainImage, readBlob, readImage, run, writeImage, type Layout } from "./layout.ts";

const folder = mkdtempSync(join(tmpdir(), "ociseal-skopeo-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const fresh = () => join(folder, `image${(count += 1)}`);
const plain = plainImage(fresh(), [randomBytes(70_000), Buffer.from("small")]);
const diffIds = (JSON.parse(readBlob(plain.folder, configDigest(plain)).toString()) as { rootfs: { diff_ids: string[] } }).rootfs.diff_ids;

function configDigest(image: Layout): string {
  const index = JSON.parse(readBlobText(image.folder, "index.json")) as { manifests: { digest: string }[] };
  const manifest = JSON.parse(readBlob(image.folder, index.manifests[0]?.digest ?? "").toString()) as { config: { digest: string } };
  return manifest.config.digest;
}

function readBlobText(root: string, name: string): string {
  return readFileSync(join(root, name), "utf8");
}

interface KeyPair {
  readonly name: string;
  readonly key: KeyObject;
  readonly publicFile: string;
  readonly privateFile: string;
}

const pairs: readonly KeyPair[] = [
  ["RSA", rsa] as const,
  ["P-256", ec("P-256")] as const,
  ["P-384", ec("P-384")] as const,
  ["P-521", ec("P-521")] as const,
].map(([name, key]) => {
  const publicFile = join(folder, `${name}.pub`);
  const privateFile = join(folder, `${name}.key`);
  writeFileSync(publicFile, createPublicKey(key).export({ type: "spki", format: "pem" }));
  writeFileSync(privateFile, key.export({ type: "pkcs8", format: "pem" }));
  return { name, key, publicFile, privateFile };
});

const pgpKey = generateKey({ userIDs: [{ name: "Al", email: "al@example.test" }], type: "rsa", rsaBits: 2048, format: "binary" });
const unwrapperOf = (pair: KeyPair): KeyUnwrapper => privateKeyUnwrapper([parsePrivateKey(readFileSync(pair.privateFile))]);
const wrapperOf = (pair: KeyPair): KeyWrapper => jweWrapper({ publicKey: parsePublicKey(readFileSync(pair.publicFile)) });

async function seal(wrappers: readonly KeyWrapper[]): Promise<string> {
  const target = fresh();
  const layers = await Promise.all(
    plain.layers.map(async (layer, i) => {
      const sealing = await sealLayer({ layer, cipher: "AES_256_CTR_HMAC_SHA256", wrappers });
      const blob = await read(sealing.stage(openerStream(plain.blobs[i] ?? Buffer.alloc(0))));
      return sealing.finish(addBlob(target, blob));
    }),
  );
  writeImage(target, layers, diffIds);
  return target;
}

async function* openerStream(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function expectOpens(image: string, unwrapper: KeyUnwrapper): Promise<void> {
  for (const [i, layer] of readImage(image).layers.entries()) {
    expect(layer.mediaType).toBe("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
    const opened = await openLayer({ layer, unwrappers: [unwrapper] });
    expect((await read(await opened.open(openerOf(readBlob(image, layer.digest))))).equals(plain.blobs[i] ?? Buffer.alloc(0))).toBe(true);
    expect(opened.plainDescriptor({ digest: plain.layers[i]?.digest ?? "sha256:", size: opened.size })).toEqual(plain.layers[i]);
  }
}

for (const skopeo of ["skopeo-1.9", "skopeo-1.18", "skopeo-1.22"] as const) {
  describe.skipIf(missingPeers(skopeo))(`the real ${skopeo}`, () => {
    it.each(pairs)("decrypts what we seal for $name", async (pair) => {
      const sealed = await seal([wrapperOf(pair)]);
      const target = fresh();
      expect(run(skopeo, "copy", "--decryption-key", pair.privateFile, `oci:${sealed}:it`, `oci:${target}:it`)).toMatchObject({
        status: 0,
      });
      expect(readImage(target).layers).toEqual(plain.layers);
    });

    it.each(pairs)("makes for $name what we open", async (pair) => {
      const target = fresh();
      expect(run(skopeo, "copy", "--encryption-key", `jwe:${pair.publicFile}`, `oci:${plain.folder}:it`, `oci:${target}:it`)).toMatchObject(
        { status: 0 },
      );
      await expectOpens(target, unwrapperOf(pair));
    });

    it("decrypts for each of several recipients, also beside a KBS key that it does not know", async () => {
      const uri = "kbs:///default/image-kek/skopeo";
      const kek = randomBytes(32);
      const sealed = await seal([kbsWrapper({ uri, kek }), ...pairs.map(wrapperOf)]);
      for (const pair of pairs) {
        const target = fresh();
        expect(run(skopeo, "copy", "--decryption-key", pair.privateFile, `oci:${sealed}:it`, `oci:${target}:it`)).toMatchObject({
          status: 0,
        });
        expect(readImage(target).layers).toEqual(plain.layers);
      }
      await expectOpens(sealed, brokerUnwrapper({ name: "KEK", reach: "local", broker: keksAtHand([{ uri, kek }]) }));
    });

    it("makes for two recipients at once what either of us opens", async () => {
      const [first, second] = pairs;
      if (first === undefined || second === undefined) throw new Error("no keys");
      const target = fresh();
      const args = ["--encryption-key", `jwe:${first.publicFile}`, "--encryption-key", `jwe:${second.publicFile}`];
      expect(run(skopeo, "copy", ...args, `oci:${plain.folder}:it`, `oci:${target}:it`)).toMatchObject({ status: 0 });
      for (const pair of [first, second]) await expectOpens(target, unwrapperOf(pair));
    });

    it("reads our pkcs7 packets, and we read its", async () => {
      const certificate = join(folder, "certificate.pem");
      writeFileSync(certificate, rsaCertificatePem);
      const [pair] = pairs;
      if (pair === undefined) throw new Error("no keys");
      const sealed = await seal([pkcs7Wrapper({ certificate: Buffer.from(rsaCertificatePem) })]);
      const [opened, made] = [fresh(), fresh()];
      const keys = ["--decryption-key", pair.privateFile, "--decryption-key", certificate];
      expect(run(skopeo, "copy", ...keys, `oci:${sealed}:it`, `oci:${opened}:it`)).toMatchObject({ status: 0 });
      expect(readImage(opened).layers).toEqual(plain.layers);
      expect(run(skopeo, "copy", "--encryption-key", `pkcs7:${certificate}`, `oci:${plain.folder}:it`, `oci:${made}:it`)).toMatchObject({
        status: 0,
      });
      await expectOpens(made, unwrapperOf(pair));
    });

    it("reads our pgp packets", async () => {
      const keyring = join(folder, "secret.gpg");
      const pgp = await pgpKey;
      writeFileSync(keyring, pgp.privateKey);
      const sealed = await seal([await pgpWrapper({ keys: pgp.publicKey, select: "al@example.test" })]);
      const opened = fresh();
      expect(run(skopeo, "copy", "--decryption-key", keyring, `oci:${sealed}:it`, `oci:${opened}:it`)).toMatchObject({ status: 0 });
      expect(readImage(opened).layers).toEqual(plain.layers);
    });
  });
}
