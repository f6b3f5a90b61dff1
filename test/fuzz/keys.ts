import { generateKeyPairSync } from "node:crypto";
import { generateKey } from "openpgp";
import { parseCocoPacket } from "../../src/keywrap/coco-packet.ts";
import { parseDer } from "../../src/keywrap/der.ts";
import {
  describePacket,
  jweWrapper,
  kbsWrapper,
  parseKbsUri,
  parsePkcs11Config,
  parsePrivateKey,
  parseProviderConfig,
  parsePublicKey,
  pgpWrapper,
  pkcs11Wrapper,
  pkcs7Wrapper,
  privateKeyUnwrapper,
  type KeyWrapper,
} from "../../src/keywrap/index.ts";
import { parseJwe } from "../../src/keywrap/jwe-form.ts";
import { pgpRecipientIds } from "../../src/keywrap/pgp-packets.ts";
import { parsePkcs11 } from "../../src/keywrap/pkcs11.ts";
import { parsePkcs7 } from "../../src/keywrap/pkcs7.ts";
import { parseReply } from "../../src/keywrap/provider/protocol.ts";
import { parsePayload } from "../../src/keyprovider/index.ts";
import { parseWrapTarget } from "../../src/keyprovider/parameters.ts";
import { parseProviderCall } from "../../src/keyprovider/protocol.ts";
import { NotProtobuf, readFields } from "../../src/keyprovider/protobuf.ts";
import { encryptionAnnotations, parseEncryptionAnnotations } from "../../src/layer/annotations.ts";
import { parsePrivateOptions, parsePublicOptions } from "../../src/layer/options-json.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { certificatePem, rsaCertificatePem } from "../keywrap/certificate.ts";
import { json, text, type FuzzTarget } from "./run.ts";

const options = {
  symkey: Buffer.alloc(32, 1).toString("base64"),
  digest: `sha256:${"ab".repeat(32)}` as const,
  cipheroptions: { nonce: Buffer.alloc(16).toString("base64") },
};

async function packet(wrapper: Promise<KeyWrapper> | KeyWrapper): Promise<Buffer> {
  const [first] = await (await wrapper).wrap(json(options));
  return Buffer.from(first?.bytes ?? []);
}

/** Protobuf: a field of bytes. */
function field(number: number, value: Buffer): Buffer {
  const length: number[] = [];
  for (let rest = value.length; ; rest >>>= 7) {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) break;
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), value]);
}

/** Whatever carries or wraps the key of a layer: annotations, packets of every scheme, key files, key providers. */
export async function keyTargets(): Promise<readonly FuzzTarget[]> {
  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const publicKey = parsePublicKey(ec.publicKey.export({ format: "der", type: "spki" }));
  const rsaPublic = parsePublicKey(rsa.publicKey.export({ format: "der", type: "spki" }));
  const unwrapper = privateKeyUnwrapper([
    parsePrivateKey(ec.privateKey.export({ format: "der", type: "pkcs8" })),
    parsePrivateKey(rsa.privateKey.export({ format: "der", type: "pkcs8" })),
  ]);
  const armored = await generateKey({ userIDs: [{ email: "fuzz@example.test" }], format: "armored" });
  const jwes = [await packet(jweWrapper({ publicKey })), await packet(jweWrapper({ publicKey: rsaPublic }))];
  const pkcs7 = await packet(pkcs7Wrapper({ certificate: Buffer.from(rsaCertificatePem) }));
  const pgp = await packet(pgpWrapper({ keys: Buffer.from(armored.publicKey) }));
  const pkcs11 = await packet(pkcs11Wrapper({ publicKey: rsaPublic, hash: "sha1" }));
  const coco = await packet(kbsWrapper({ uri: "kbs:///default/key/1", kek: Buffer.alloc(32, 7), packets: "attestation-agent" }));
  const publicFiles = [
    text(String(ec.publicKey.export({ format: "pem", type: "spki" }))),
    rsa.publicKey.export({ format: "der", type: "pkcs1" }),
    json(ec.publicKey.export({ format: "jwk" })),
    text(certificatePem),
  ];
  const privateFiles = [
    text(String(ec.privateKey.export({ format: "pem", type: "sec1" }))),
    text(String(rsa.privateKey.export({ format: "pem", type: "pkcs1" }))),
    rsa.privateKey.export({ format: "der", type: "pkcs8" }),
    json(ec.privateKey.export({ format: "jwk" })),
  ];
  const request = {
    op: "keywrap",
    keywrapparams: {
      ec: { Parameters: { "attestation-agent": ["a2JzOi8vL2RlZmF1bHQva2V5L2E="] } },
      optsdata: json(options).toString("base64"),
    },
  };
  const unwrap = {
    op: "keyunwrap",
    keyunwrapparams: { dc: { Parameters: { "attestation-agent": ["YQ=="] } }, annotation: coco.toString("base64") },
  };
  const descriptor: Descriptor = {
    mediaType: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    digest: options.digest,
    size: 9,
    annotations: {
      [encryptionAnnotations.publicOptions]: "e30=",
      [`${encryptionAnnotations.keys}jwe`]: (jwes[0] ?? coco).toString("base64"),
    },
  };
  const publicOptions = { cipher: "AES_256_GCM_C2SP_CHUNKED_V1", hmac: Buffer.alloc(32).toString("base64"), cipheroptions: {} };
  const payload = Buffer.concat([
    field(1, Buffer.from("io.containerd.ocicrypt.v1.Payload")),
    field(2, json({ Descriptor: descriptor, DecryptConfig: { Parameters: { privkeys: ["b25l"], "privkeys-passwords": ["cHc="] } } })),
  ]);
  const layer = (input: Buffer): Descriptor => ({
    ...descriptor,
    annotations: { ...descriptor.annotations, [encryptionAnnotations.publicOptions]: input.toString("latin1") },
  });
  const describe = (scheme: "jwe" | "pkcs7" | "pgp" | "pkcs11" | "provider.attestation-agent") => (bytes: Buffer) =>
    describePacket({ scheme, bytes });
  return [
    { name: "JWE", weight: 10, seeds: jwes, run: parseJwe },
    { name: "JWE, opened", weight: 3, seeds: jwes, run: (bytes) => unwrapper.unwrap({ scheme: "jwe", bytes }) },
    { name: "PKCS#7", weight: 10, seeds: [pkcs7], run: parsePkcs7 },
    { name: "PKCS#7, opened", weight: 3, seeds: [pkcs7], run: (bytes) => unwrapper.unwrap({ scheme: "pkcs7", bytes }) },
    { name: "PGP", weight: 8, seeds: [pgp], run: pgpRecipientIds },
    { name: "PKCS#11", weight: 4, seeds: [pkcs11], run: parsePkcs11 },
    { name: "packet of CoCo", weight: 6, seeds: [coco], run: parseCocoPacket },
    { name: "JWE, described", weight: 2, seeds: jwes, run: describe("jwe") },
    { name: "PKCS#7, described", weight: 2, seeds: [pkcs7], run: describe("pkcs7") },
    { name: "PGP, described", weight: 2, seeds: [pgp], run: describe("pgp") },
    { name: "packet of CoCo, described", weight: 2, seeds: [coco], run: describe("provider.attestation-agent") },
    { name: "DER", weight: 8, seeds: [pkcs7, rsa.privateKey.export({ format: "der", type: "pkcs8" })], run: parseDer },
    { name: "public key", weight: 4, seeds: publicFiles, run: (input) => parsePublicKey(input) },
    { name: "private key", weight: 4, seeds: privateFiles, run: (input) => parsePrivateKey(input) },
    {
      name: "key URI",
      weight: 2,
      seeds: [text("kbs:///default/key/1"), text("kbs://h:1/a/b/c")],
      run: (input) => parseKbsUri(input.toString("utf8")),
    },
    {
      name: "PKCS#11 configuration",
      weight: 1,
      seeds: [text("pkcs11:\n  uri: pkcs11:token=x\nmodule:\n  env:\n    A: b\n")],
      run: (input) => parsePkcs11Config(input, "fuzz"),
    },
    {
      name: "configuration of key providers",
      weight: 2,
      seeds: [json({ "key-providers": { a: { cmd: { path: "/x", args: ["a"] } }, b: { grpc: "127.0.0.1:1" } } })],
      run: parseProviderConfig,
    },
    {
      name: "reply of a key provider",
      weight: 2,
      seeds: [json({ keywrapresults: { annotation: "YQ==" } })],
      run: (input) => parseReply("keywrap", "fuzz", input),
    },
    {
      name: "request to the key provider",
      weight: 4,
      seeds: [json(request), json(unwrap)],
      run: (input) => parseProviderCall(input, "attestation-agent"),
    },
    {
      name: "parameters of the key provider",
      weight: 2,
      seeds: [text("keyid=kbs:///default/key/1"), text("kbs:///default/key")],
      run: (input) => parseWrapTarget([input.toString("utf8")]),
    },
    { name: "protobuf", weight: 4, seeds: [payload], run: readFields, refuses: (error) => error instanceof NotProtobuf },
    { name: "payload of containerd", weight: 5, seeds: [payload], run: parsePayload },
    { name: "public options", weight: 4, seeds: [json(publicOptions)], run: parsePublicOptions },
    { name: "private options", weight: 3, seeds: [json(options)], run: parsePrivateOptions },
    {
      name: "annotations",
      weight: 3,
      seeds: [text(json(publicOptions).toString("base64"))],
      run: (input) => parseEncryptionAnnotations(layer(input)),
    },
  ];
}
