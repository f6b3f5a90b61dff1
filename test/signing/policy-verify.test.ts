import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Descriptor } from "../../src/oci/index.ts";
import {
  generateCosignKeyPair,
  loadSigner,
  parsePolicy,
  signImage,
  SigningError,
  verifyImage,
  type KeySigner,
} from "../../src/signing/index.ts";
import { memoryStore, type ContentStore } from "../../src/store/index.ts";
import { openRegistry } from "../../src/registry/index.ts";
import { missingPeers } from "../peers.ts";
import { pushImage } from "./image.ts";
import { inParallel, removeFolder, run, startDockerRegistry, temporaryFolder, type RegistryProcess } from "./programs.ts";

const now = new Date("2026-01-02T03:04:05Z");

async function newSigner(): Promise<{ readonly signer: KeySigner; readonly publicPem: string }> {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  return { signer: await loadSigner({ pem, source: "test key" }), publicPem: publicKey.export({ format: "pem", type: "spki" }).toString() };
}

async function outcome(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "allowed";
  } catch (error) {
    if (error instanceof SigningError) return error.code;
    throw error;
  }
}

describe("a policy on an image", () => {
  let store: ContentStore;
  let target: Descriptor;
  let ours: Awaited<ReturnType<typeof newSigner>>;
  let theirs: Awaited<ReturnType<typeof newSigner>>;

  beforeAll(async () => {
    store = memoryStore("memory:policy");
    target = await pushImage(store);
    ours = await newSigner();
    theirs = await newSigner();
    await signImage({ store, target, reference: "example.com/app", signer: ours.signer, format: "both", now });
  });

  function verify(document: object, reference = "example.com/app:1", bundles?: "count") {
    const policy = parsePolicy({ bytes: JSON.stringify(document), source: "policy.json" });
    return verifyImage({ store, target, requirement: { kind: "policy", policy, subject: { transport: "docker", reference }, bundles } });
  }

  const byKey = (pem: string, more: object = { signedIdentity: { type: "matchRepository" } }) => ({
    type: "sigstoreSigned",
    keyData: Buffer.from(pem).toString("base64"),
    ...more,
  });

  it("says which signature satisfied which requirement, and of which scope", async () => {
    const verified = await verify({ default: [{ type: "reject" }], transports: { docker: { "example.com": [byKey(ours.publicPem)] } } });
    expect(verified).toMatchObject({
      basis: "signed",
      policy: {
        scope: "docker: example.com",
        requirements: [{ type: "sigstoreSigned", location: expect.stringContaining(".sig, layer 0") }],
      },
    });
  });

  it("demands every requirement of the scope", async () => {
    expect(await outcome(verify({ default: [byKey(ours.publicPem), byKey(theirs.publicPem)] }))).toBe("ERR_POLICY_REJECTED");
    expect(await outcome(verify({ default: [byKey(ours.publicPem), byKey(ours.publicPem)] }))).toBe("allowed");
    expect(await outcome(verify({ default: [byKey(ours.publicPem), { type: "reject" }] }))).toBe("ERR_POLICY_REJECTED");
  });

  it("takes one of several keys", async () => {
    const keyDatas = [theirs.publicPem, ours.publicPem].map((pem) => Buffer.from(pem).toString("base64"));
    expect(await outcome(verify({ default: [{ type: "sigstoreSigned", keyDatas, signedIdentity: { type: "matchRepository" } }] }))).toBe(
      "allowed",
    );
  });

  it("lets the most specific scope decide alone", async () => {
    const transports = {
      docker: { "example.com/app": [byKey(ours.publicPem)], "example.com": [{ type: "reject" }], "": [{ type: "reject" }] },
    };
    expect(await outcome(verify({ default: [{ type: "reject" }], transports }))).toBe("allowed");
    const tagged = { docker: { ...transports.docker, "example.com/app:1": [{ type: "reject" }] } };
    expect(await outcome(verify({ default: [{ type: "reject" }], transports: tagged }))).toBe("ERR_POLICY_REJECTED");
    expect(await outcome(verify({ default: [{ type: "reject" }], transports: tagged }, `example.com/app@${target.digest}`))).toBe(
      "allowed",
    );
  });

  it("says aloud when nothing was asked of the image", async () => {
    const verified = await verify({ default: [{ type: "insecureAcceptAnything" }] });
    expect(verified).toMatchObject({ basis: "accepted-unsigned", signatures: [] });
  });

  it("counts bundles only where the operator said so", async () => {
    const other = await pushImage(store);
    await signImage({ store, target: other, reference: "example.com/app", signer: ours.signer, format: "bundle", now });
    const policy = parsePolicy({ bytes: JSON.stringify({ default: [byKey(ours.publicPem)] }), source: "policy.json" });
    const subject = { transport: "docker", reference: "example.com/app:1" } as const;
    const request = (bundles: "refuse" | "count") =>
      verifyImage({ store, target: other, requirement: { kind: "policy", policy, subject, bundles } });
    expect(await outcome(request("refuse"))).toBe("ERR_POLICY_REJECTED");
    expect((await request("count")).signatures).toMatchObject([{ format: "bundle" }]);
  });

  it("refuses when a key that it names is not there, and says which member names it", async () => {
    const failing = verify({ default: [{ type: "sigstoreSigned", keyPath: "/nonexistent/cosign.pub" }] });
    await expect(failing).rejects.toMatchObject({ code: "ERR_POLICY_MATERIAL", message: expect.stringContaining("default[0].keyPath") });
  });

  it("never accepts a GnuPG requirement", async () => {
    expect(await outcome(verify({ default: [{ type: "signedBy", keyType: "GPGKeys", keyPath: "/a" }] }))).toBe("ERR_POLICY_REJECTED");
  });
});

describe.skipIf(missingPeers("skopeo-1.18", "skopeo-1.22", "docker-registry"))("policies in real skopeo and here", () => {
  let registry: RegistryProcess;
  let folder: string;
  let store: ContentStore;
  let target: Descriptor;

  beforeAll(async () => {
    registry = await startDockerRegistry();
    folder = temporaryFolder();
    mkdirSync(join(folder, "rd"));
    writeFileSync(join(folder, "rd", "all.yaml"), "default-docker:\n  use-sigstore-attachments: true\n");
    writeFileSync(join(folder, "accept.json"), JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
    for (const name of ["ours", "theirs"]) {
      const { privatePem, publicPem } = await generateCosignKeyPair({ password: "p" });
      writeFileSync(join(folder, `${name}.key`), privatePem);
      writeFileSync(join(folder, `${name}.pub`), publicPem);
      if (name === "theirs") continue;
      store = openRegistry({ host: registry.host, repository: "app" });
      target = await pushImage(store, "v1");
      const signer = await loadSigner({ pem: privatePem, password: "p", source: name });
      await signImage({ store, target, reference: `${registry.host}/app`, signer, format: "both", now });
    }
  });

  afterAll(async () => {
    await registry.stop();
    removeFolder(folder);
  });

  it("agree on identities and scopes, for our signature and for skopeo's", async () => {
    writeFileSync(join(folder, "pw"), "p");
    const copied = await run(
      "skopeo-1.22",
      ["--registries.d", "rd", "--policy", "accept.json", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"]
        .concat(["--sign-by-sigstore-private-key", "ours.key", "--sign-passphrase-file", "pw"])
        .concat([`docker://${registry.host}/app:v1`, `docker://${registry.host}/theirs:v2`]),
      {},
      folder,
    );
    expect(copied).toMatchObject({ code: 0 });
    const key = (file: string, signedIdentity?: object) => ({
      type: "sigstoreSigned",
      keyPath: join(folder, file),
      ...(signedIdentity === undefined ? {} : { signedIdentity }),
    });
    const host = registry.host;
    const only = (requirement: object) => ({ default: [requirement] });
    const policies: readonly object[] = [
      only(key("ours.pub", { type: "matchRepository" })),
      only(key("theirs.pub", { type: "matchRepository" })),
      only(key("ours.pub")),
      only(key("ours.pub", { type: "matchExact" })),
      only(key("ours.pub", { type: "exactReference", dockerReference: `${host}/theirs:v2` })),
      only(key("ours.pub", { type: "exactRepository", dockerRepository: `${host}/app` })),
      only(key("ours.pub", { type: "remapIdentity", prefix: `${host}/theirs`, signedPrefix: `${host}/app` })),
      { default: [{ type: "reject" }], transports: { docker: { "127.0.0.1": [key("ours.pub", { type: "matchRepository" })] } } },
      { default: [{ type: "reject" }], transports: { docker: { [host]: [key("ours.pub", { type: "matchRepository" })] } } },
      { default: [{ type: "reject" }], transports: { docker: { [`${host}/app:v1`]: [key("ours.pub", { type: "matchRepository" })] } } },
    ];
    const images = [`${host}/app:v1`, `${host}/app@${target.digest}`, `${host}/theirs:v2`];
    const cases = policies.flatMap((document, p) => images.map((image) => ({ p, document, image })));
    const sampled = cases.filter((_, i) => process.env["CI"] !== undefined || i % 3 !== 1);
    const results = await inParallel(sampled, async ({ p, document, image }, i) => {
      const file = join(folder, `policy-${i}.json`);
      writeFileSync(file, JSON.stringify(document));
      const args = [
        "--registries.d",
        "rd",
        "--policy",
        file,
        "copy",
        "--src-tls-verify=false",
        `docker://${image}`,
        `dir:${join(folder, `out-${i}`)}`,
      ];
      const { code } = await run(i % 2 === 0 ? "skopeo-1.22" : "skopeo-1.18", args, {}, folder);
      const policy = parsePolicy({ bytes: JSON.stringify(document), source: file });
      const repository = image.includes("/theirs") ? "theirs" : "app";
      const verified = await outcome(
        verifyImage({
          store: openRegistry({ host: host, repository: repository }),
          target,
          requirement: { kind: "policy", policy, subject: { transport: "docker", reference: image } },
        }),
      );
      return { p, image, skopeo: code === 0 ? "allowed" : "refused", ours: verified === "allowed" ? "allowed" : "refused" };
    });
    expect(results.map(({ p, image, ours }) => ({ p, image, verdict: ours }))).toEqual(
      results.map(({ p, image, skopeo }) => ({ p, image, verdict: skopeo })),
    );
    expect(new Set(results.map(({ ours }) => ours))).toEqual(new Set(["allowed", "refused"]));
  });
});
