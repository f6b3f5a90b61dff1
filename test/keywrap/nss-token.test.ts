import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cleanEnvironment, ociseal, type Outcome } from "../cli/run.ts";
import { plainImage, readImage } from "../layer/layout.ts";
import { missingPeers, peer, type PeerName } from "../peers.ts";

const program = (name: PeerName): string => peer(name) ?? name;

/**
 * SoftHSM does RSA-OAEP with SHA-1 only. NSS does it with SHA-256, and OpenSC 0.26 talks to it, which writes its remarks to
 * stdout, behind the plaintext.
 */
describe.skipIf(missingPeers("pkcs11-tool-0.26", "certutil", "libsoftokn3.so"))("a key in a token that does SHA-256 (NSS)", () => {
  let folder: string;
  let env: Readonly<Record<string, string>>;
  const softokn = program("libsoftokn3.so");
  const run = (args: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    ociseal(args, { cwd: folder, env: { ...env, ...more } });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "ociseal-nss-"));
    for (const name of ["bin", "db"]) await mkdir(join(folder, name));
    await symlink(program("pkcs11-tool-0.26"), join(folder, "bin/pkcs11-tool"));
    env = { PATH: `${join(folder, "bin")}:${process.env["PATH"]}` };
    const settings = `configDir='sql:${join(folder, "db")}' certPrefix='' keyPrefix='' secmod='' dbTokenDescription='layers'`;
    await writeFile(join(folder, "pin"), "5678\n");
    const tool = (file: string, ...args: readonly string[]): Buffer =>
      execFileSync(file, args, {
        cwd: folder,
        env: cleanEnvironment({ PIN: "5678", NSS_LIB_PARAMS: settings }),
        stdio: ["ignore", "pipe", "ignore"],
      });
    tool(program("certutil"), "-N", "-d", "sql:db", "-f", "pin");
    const token = ["--module", softokn, "--token-label", "layers"];
    for (const [label, id] of [
      ["mine", "0a"],
      ["other", "0b"],
    ] as const) {
      const made = ["--login", "--pin", "env:PIN", "--keypairgen", "--key-type", "rsa:3072", "--id", id, "--label", label];
      tool(program("pkcs11-tool-0.26"), ...token, ...made);
    }
    const publicKey = tool(program("pkcs11-tool-0.26"), ...token, "--read-object", "--type", "pubkey", "--id", "0a");
    await writeFile(join(folder, "mine.pub"), publicKey);
    for (const [name, label, pin] of [
      ["mine.yaml", "mine", `pin-source=file:${join(folder, "pin")}`],
      ["other.yaml", "other", `pin-source=file:${join(folder, "pin")}`],
      ["mine-wrong-pin.yaml", "mine", "pin-value=9999"],
      ["mine-ocicrypt.yaml", "mine", "pin-value=5678"],
    ] as const) {
      const uri = `pkcs11:token=layers;object=${label}?module-path=${softokn}&${pin}`;
      await writeFile(join(folder, name), `pkcs11:\n  uri: ${uri}\nmodule:\n  env:\n    NSS_LIB_PARAMS: "${settings}"\n`);
    }
    plainImage(join(folder, "plain"), [Buffer.alloc(50_000, 1), Buffer.from("small")]);
    const made = await run(["encrypt", "oci:plain:it", "oci:sealed:it", "-r", "pkcs11:mine.yaml", "--profile", "ocicrypt"]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const expectOpened = (name: string): void => {
    expect(readImage(join(folder, name)).layers).toEqual(readImage(join(folder, "plain")).layers);
  };

  it("opens what was wrapped for it with SHA-256, which is what we write unless told", async () => {
    const inspected = await run(["inspect", "oci:sealed:it", "--json"]);
    expect(inspected.stdout).toContain("RSA-OAEP-256");
    const opened = await run(["decrypt", "oci:sealed:it", "oci:open:it", "-k", "pkcs11:mine.yaml"]);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expectOpened("open");
  });

  it.each([["pkcs11:mine.pub"], ["pkcs11:mine.pub;hash=sha1"]])("opens our cipher, and both hashes: %s", async (recipient) => {
    const name = recipient.includes("sha1") ? "sha1" : "sha256";
    const made = await run(["encrypt", "oci:plain:it", `oci:${name}:it`, "-r", recipient]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const opened = await run(["decrypt", `oci:${name}:it`, `oci:${name}-open:it`, "-k", "pkcs11:mine.yaml"]);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expectOpened(`${name}-open`);
  });

  it.each([
    ["another key of the token", "other.yaml", 7, "ERR_KEYWRAP_NO_KEY"],
    ["a wrong PIN", "mine-wrong-pin.yaml", 4, "ERR_KEY_SERVICE"],
  ])("is told from %s", async (_, key, status, code) => {
    const refused = await run(["decrypt", "--json", "oci:sealed:it", "oci:never:it", "-k", `pkcs11:${key}`]);
    expect(refused).toMatchObject({ status });
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code } });
    expect(refused.stdout + refused.stderr).not.toMatch(/5678|9999/);
  });

  it.skipIf(missingPeers("skopeo-1.18"))("opens what skopeo encrypts with SHA-256, and skopeo opens ours in it", async () => {
    await writeFile(join(folder, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
    const directory = join(softokn, "..");
    const allowed = `pkcs11:\n  module-directories:\n    - ${directory}\n  allowed-module-paths:\n    - ${softokn}\n`;
    await writeFile(join(folder, "ocicrypt.conf"), allowed);
    const skopeo = (...args: readonly string[]): Buffer =>
      execFileSync(program("skopeo-1.18"), ["--policy", "policy.json", "copy", ...args], {
        cwd: folder,
        env: cleanEnvironment({ HOME: folder, OCICRYPT_CONFIG: "ocicrypt.conf", OCICRYPT_OAEP_HASHALG: "sha256" }),
        stdio: ["ignore", "pipe", "pipe"],
      });
    skopeo("--encryption-key", "pkcs11:mine.pub", "oci:plain:it", "oci:skopeo:it");
    expect((await run(["inspect", "oci:skopeo:it", "--json"])).stdout).toContain("RSA-OAEP-256");
    const opened = await run(["decrypt", "oci:skopeo:it", "oci:skopeo-open:it", "-k", "pkcs11:mine.yaml"]);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expectOpened("skopeo-open");
    skopeo("--decryption-key", "mine-ocicrypt.yaml", "oci:sealed:it", "oci:skopeo-theirs:it");
    expectOpened("skopeo-theirs");
  });
});
