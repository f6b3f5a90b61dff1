import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKey } from "openpgp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, type Outcome } from "../cli/run.ts";
import { rsaCertificatePem } from "../keywrap/certificate.ts";
import { rsa } from "../keywrap/keys.ts";

let folder: string;
let digest: string;
const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> => ociseal(args, { cwd: folder, env });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-schemes-"));
  const image = await makeImage({
    layers: [{ entries: [{ kind: "file", path: "file", content: Buffer.from("content") }] }],
    platform: { os: "linux", architecture: "amd64" },
  });
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, image, "app");
  await layout.close();
  digest = image.descriptor.digest;
  await writeFile(join(folder, "rsa.key"), rsa.export({ type: "pkcs8", format: "pem" }));
  await writeFile(join(folder, "cert.pem"), rsaCertificatePem);
  const pgp = await generateKey({ userIDs: [{ name: "Ann", email: "ann@example.org" }], passphrase: "pgp-secret", format: "armored" });
  await writeFile(join(folder, "pub.asc"), pgp.publicKey);
  await writeFile(join(folder, "sec.asc"), pgp.privateKey);
  const token = generateKeyPairSync("rsa", { modulusLength: 3072 });
  await writeFile(join(folder, "token.pem"), token.publicKey.export({ type: "spki", format: "pem" }));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function layoutDigest(layout: string): Promise<string | undefined> {
  const index = JSON.parse(await readFile(join(folder, layout, "index.json"), "utf8")) as { manifests: { digest: string }[] };
  return index.manifests[0]?.digest;
}

describe("recipients and keys as in ocicrypt", () => {
  it.each([
    ["pkcs7:cert.pem", "rsa.key"],
    ["pgp:pub.asc#ann@example.org", "pgp:sec.asc:env=PGP_PASSWORD"],
  ])("%s is opened with %s", async (recipient, key) => {
    const name = recipient.slice(0, 4).replace(":", "");
    const made = await run(["encrypt", "oci:image:app", `oci:${name}:app`, "-r", recipient]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const opened = await run(["decrypt", `oci:${name}:app`, `oci:${name}-open:app`, "-k", key], { PGP_PASSWORD: "pgp-secret" });
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expect(await layoutDigest(`${name}-open`)).toBe(digest);
  });

  it("pkcs11:FILE wraps for a token by its public key alone, which does not open", async () => {
    const made = await run(["encrypt", "oci:image:app", "oci:token:app", "-r", "pkcs11:token.pem;hash=sha256"]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const refused = await run(["decrypt", "oci:token:app", "oci:token-open:app", "-k", "pkcs11:token.pem"]);
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining("does not name a key in a token") });
  });

  it("are removed without a key, also where they have no ID", async () => {
    const made = await run(["encrypt", "oci:image:app", "oci:both:app", "-r", "pkcs11:token.pem", "-r", "pkcs7:cert.pem"]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const rest = await run(["rewrap", "oci:both:app", "--remove", "pkcs11:?", "--json"]);
    expect(JSON.parse(rest.stdout)).toMatchObject({ removed: [{ scheme: "pkcs11" }] });
    const again = await run(["rewrap", "oci:both:app", "--remove", "pkcs11:?", "--json"]);
    expect(JSON.parse(again.stdout)).toMatchObject({ error: { code: "ERR_LAYER_RECIPIENT_NOT_FOUND" } });
    expect(await run(["decrypt", "oci:both:app", "oci:both-open:app", "-k", "rsa.key"])).toMatchObject({ status: 0 });
  });

  it("provider: without a configuration, or without that provider in it, is a usage error", async () => {
    await writeFile(join(folder, "none.json"), '{"key-providers":{}}');
    for (const env of [{}, { OCICRYPT_KEYPROVIDER_CONFIG: "none.json" }]) {
      expect(await run(["encrypt", "oci:image:app", "oci:never:app", "-r", "provider:attestation-agent:kbs:///a/b"], env)).toMatchObject({
        status: 2,
      });
      expect(await run(["decrypt", "oci:image:app", "oci:never:app", "-k", "provider:attestation-agent"], env)).toMatchObject({
        status: 2,
      });
    }
  });

  it("a provider gets the packet and its own parameters, and no key or password of others, in no way", async () => {
    // Turns bytes around, and writes down all that it is told: its request, arguments and environment.
    await writeFile(
      join(folder, "provider.mjs"),
      `import { appendFileSync, readFileSync } from "node:fs";
       const text = readFileSync(0, "utf8");
       appendFileSync("told", JSON.stringify([text, process.argv, process.env]) + "\\n");
       const { op, keywrapparams, keyunwrapparams } = JSON.parse(text);
       const turned = (base64) => [...Buffer.from(base64, "base64")].reverse();
       console.log(JSON.stringify(op === "keywrap"
         ? { keywrapresults: { annotation: turned(keywrapparams.optsdata) } }
         : { keyunwrapresults: { optsdata: turned(keyunwrapparams.annotation) } }));`,
    );
    const config = { "key-providers": { mine: { cmd: { path: process.execPath, args: ["provider.mjs"] } } } };
    await writeFile(join(folder, "providers.json"), JSON.stringify(config));
    const locked = rsa.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "rsa-secret" }).toString();
    await writeFile(join(folder, "locked.key"), locked);
    const env = {
      OCICRYPT_KEYPROVIDER_CONFIG: "providers.json",
      COSIGN_PASSWORD: "cosign-secret",
      COSIGN_PKCS11_PIN: "pin-secret",
      SEEN: "seen",
    };
    const passwords = { RSA_PASSWORD: "rsa-secret", PGP_PASSWORD: "pgp-secret" };
    const done = async (...args: readonly string[]): Promise<void> => {
      const outcome = await run(args, args.includes("-k") ? { ...env, ...passwords } : env);
      expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
    };
    const keys = ["-k", "locked.key:env=RSA_PASSWORD", "-k", "pgp:sec.asc:env=PGP_PASSWORD", "-k", "provider:mine"];
    await done("encrypt", "oci:image:app", "oci:theirs:app", "-r", "provider:mine:a");
    await done("decrypt", "oci:theirs:app", "oci:theirs-open:app", ...keys);
    await done("rewrap", "oci:theirs:app", ...keys, "--add", "provider:mine:b");
    const told = await readFile(join(folder, "told"), "utf8");
    expect(told.match(/"op\\":\\"keyunwrap/g)?.length).toBeGreaterThan(1);
    expect(told).toContain('"SEEN":"seen"');
    const lines = locked.split("\n").filter((line) => /^[A-Za-z0-9+/=]{40,}$/.test(line));
    for (const secret of ["-secret", "PRIVATE KEY", Buffer.from("-secret").toString("base64").slice(0, 8), ...lines])
      expect(told).not.toContain(secret);
  });
});
