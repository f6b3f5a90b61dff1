import { execFileSync } from "node:child_process";
import { createPrivateKey, sign } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Descriptor } from "../../src/oci/index.ts";
import { openRegistry, type RegistryStore } from "../../src/registry/index.ts";
import { parsePolicy, SigningError, verifyImage } from "../../src/signing/index.ts";
import { missingPeers } from "../peers.ts";
import { forgeLegacy, signatureAnnotation } from "./forge.ts";
import { pushImage } from "./image.ts";
import { removeFolder, run, startDockerRegistry, temporaryFolder, type RegistryProcess } from "./programs.ts";

const extensions = `
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign
[shortca]
basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign
[leaf]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=codeSigning
subjectAltName=email:me@example.test,DNS:ci.example.test
[server]
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth
subjectAltName=email:me@example.test,DNS:ci.example.test
`;

describe.skipIf(missingPeers("skopeo-1.22", "docker-registry"))("a policy that names a plain certificate authority", () => {
  const folder = temporaryFolder();
  let registry: RegistryProcess;
  const openssl = (...args: readonly string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });

  function issue(name: string, section: string, issuer?: string, days = "30"): void {
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${name}.key`);
    openssl("req", "-new", "-key", `${name}.key`, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
    const by = issuer === undefined ? ["-signkey", `${name}.key`] : ["-CA", `${issuer}.crt`, "-CAkey", `${issuer}.key`, "-CAcreateserial"];
    openssl(
      "x509",
      "-req",
      "-in",
      `${name}.csr`,
      ...by,
      "-days",
      days,
      "-extfile",
      "ext.cnf",
      "-extensions",
      section,
      "-out",
      `${name}.crt`,
    );
  }

  beforeAll(async () => {
    writeFileSync(join(folder, "ext.cnf"), extensions);
    mkdirSync(join(folder, "rd"));
    writeFileSync(join(folder, "rd", "all.yaml"), "default-docker:\n  use-sigstore-attachments: true\n");
    issue("root", "ca");
    issue("other", "ca");
    issue("middle", "ca", "root");
    issue("short", "shortca", "root");
    issue("below", "ca", "short");
    issue("direct", "leaf", "root");
    issue("through", "leaf", "middle");
    issue("toodeep", "leaf", "below");
    issue("server", "server", "root");
    issue("underleaf", "leaf", "direct");
    registry = await startDockerRegistry();
  });
  afterAll(async () => {
    await registry.stop();
    removeFolder(folder);
  });

  async function signed(
    leaf: string,
    chain: readonly string[],
  ): Promise<{ readonly store: RegistryStore; readonly target: Descriptor; readonly image: string }> {
    const repository = `pki-${leaf}-${chain.length}`;
    const store = openRegistry({ host: registry.host, repository });
    const target = await pushImage(store, "v1");
    const payload = Buffer.from(
      `{"critical":{"identity":{"docker-reference":"${registry.host}/${repository}"},"image":{"docker-manifest-digest":"${target.digest}"},"type":"cosign container image signature"},"optional":null}`,
    );
    const signature = sign("sha256", payload, createPrivateKey(readFileSync(join(folder, `${leaf}.key`)))).toString("base64");
    const pem = (name: string): string => readFileSync(join(folder, `${name}.crt`), "utf8");
    const annotations = {
      [signatureAnnotation]: signature,
      "dev.sigstore.cosign/certificate": pem(leaf),
      ...(chain.length === 0 ? {} : { "dev.sigstore.cosign/chain": chain.map(pem).join("") }),
    };
    await forgeLegacy(store, target, [{ payload, annotations }]);
    return { store, target, image: `${registry.host}/${repository}:v1` };
  }

  const email = { subjectEmail: "me@example.test" };
  it.each([
    ["a certificate of the root", "direct", [], "root", email, "allowed"],
    ["a host instead of an e-mail", "direct", [], "root", { subjectHostname: "ci.example.test" }, "allowed"],
    ["another e-mail", "direct", [], "root", { subjectEmail: "you@example.test" }, "refused"],
    ["another host", "direct", [], "root", { subjectHostname: "example.test" }, "refused"],
    ["another root", "direct", [], "other", email, "refused"],
    ["an intermediate that is sent along", "through", ["middle", "root"], "root", email, "allowed"],
    ["an intermediate that nobody has", "through", [], "root", email, "refused"],
    ["more certificates than a path may have", "toodeep", ["below", "short", "root"], "root", email, "refused"],
    ["a certificate for servers", "server", [], "root", email, "refused"],
    ["a certificate that a leaf issued", "underleaf", ["direct", "root"], "root", email, "refused"],
  ] as const)("agrees with skopeo on %s", async (_, leaf, chain, root, subject, expected) => {
    const { store, target, image } = await signed(leaf, chain);
    const item = {
      type: "sigstoreSigned",
      pki: { caRootsPath: join(folder, `${root}.crt`), ...subject },
      signedIdentity: { type: "matchRepository" },
    };
    const text = JSON.stringify({ default: [item] });
    const file = join(folder, `${leaf}-${root}.json`);
    writeFileSync(file, text);
    const args = [
      "--registries.d",
      "rd",
      "--policy",
      file,
      "copy",
      "--src-tls-verify=false",
      `docker://${image}`,
      `dir:${join(folder, "out")}`,
    ];
    const { code } = await run("skopeo-1.22", args, {}, folder);
    const policy = parsePolicy({ bytes: text, source: file });
    const ours = await verifyImage({
      store,
      target,
      requirement: { kind: "policy", policy, subject: { transport: "docker", reference: image } },
    }).then(
      () => "allowed",
      (error: unknown) => (error instanceof SigningError && error.code === "ERR_POLICY_REJECTED" ? "refused" : String(error)),
    );
    await store.close();
    expect({ ours, skopeo: code === 0 ? "allowed" : "refused" }).toEqual({ ours: expected, skopeo: expected });
  });
});
