import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cleanEnvironment, ociseal, type Outcome } from "../cli/run.ts";
import { plainImage, readImage } from "../layer/layout.ts";
import { missingPeers, peer, type PeerName } from "../peers.ts";

const program = (name: PeerName): string => peer(name) ?? name;

/** Whose words differ: 0.26 writes its remarks behind the plaintext on stdout, 0.27 lists keys in another form. */
const tools = [
  { tool: "pkcs11-tool-0.26", module: "libsoftokn3-trixie.so" },
  { tool: "pkcs11-tool-0.27", module: "libsoftokn3-sid.so" },
] as const;
const settings = "certPrefix='' keyPrefix='' secmod='' dbTokenDescription='layers'";
const signingKeys = [
  ["EC:prime256v1", "p256", "0c"],
  ["EC:secp384r1", "p384", "0a0b0c0d0e0f"],
] as const;

/** SoftHSM does RSA-OAEP with SHA-1 only. NSS does it with SHA-256. */
describe.skipIf(missingPeers("certutil", ...tools.flatMap(({ tool, module }) => [tool, module])))("a key in a token (NSS)", () => {
  let folder: string;
  const run = (args: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    ociseal(args, { cwd: folder, env: more });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "ociseal-nss-"));
    await mkdir(join(folder, "db"));
    await writeFile(join(folder, "pin"), "5678\n");
    await writeFile(join(folder, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
    const make = (file: string, ...args: readonly string[]): Buffer =>
      execFileSync(file, args, {
        cwd: folder,
        env: cleanEnvironment({ PIN: "5678", NSS_LIB_PARAMS: databaseOf(folder) }),
        stdio: ["ignore", "pipe", "ignore"],
      });
    make(program("certutil"), "-N", "-d", "sql:db", "-f", "pin");
    const [{ tool, module }] = tools;
    const token = ["--module", program(module), "--token-label", "layers"];
    for (const [type, label, id] of [["rsa:3072", "mine", "0a"], ["rsa:3072", "other", "0b"], ...signingKeys] as const)
      make(program(tool), ...token, "--login", "--pin", "env:PIN", "--keypairgen", "--key-type", type, "--id", id, "--label", label);
    await writeFile(join(folder, "mine.pub"), make(program(tool), ...token, "--read-object", "--type", "pubkey", "--id", "0a"));
    plainImage(join(folder, "plain"), [Buffer.alloc(50_000, 1), Buffer.from("small")]);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const expectOpened = (name: string): void => {
    expect(readImage(join(folder, name)).layers).toEqual(readImage(join(folder, "plain")).layers);
  };

  describe.each(tools)("with $tool", ({ tool, module }) => {
    let env: Readonly<Record<string, string>>;
    const uriOf = (label: string, pin: string): string => `pkcs11:token=layers;object=${label}?module-path=${program(module)}&${pin}`;
    const done = async (...args: readonly string[]): Promise<void> => {
      const outcome = await run(args, env);
      expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
    };

    beforeAll(async () => {
      await mkdir(join(folder, tool));
      await symlink(program(tool), join(folder, tool, "pkcs11-tool"));
      env = { PATH: `${join(folder, tool)}:${process.env["PATH"]}` };
      for (const [name, label, pin] of [
        ["mine", "mine", `pin-source=file:${join(folder, "pin")}`],
        ["other", "other", `pin-source=file:${join(folder, "pin")}`],
        ["wrong-pin", "mine", "pin-value=9999"],
        ["ocicrypt", "mine", "pin-value=5678"],
      ] as const) {
        const text = `pkcs11:\n  uri: ${uriOf(label, pin)}\nmodule:\n  env:\n    NSS_LIB_PARAMS: "${databaseOf(folder)}"\n`;
        await writeFile(join(folder, tool, `${name}.yaml`), text);
      }
      await done("encrypt", "oci:plain:it", `oci:${tool}/sealed:it`, "-r", `pkcs11:${tool}/mine.yaml`, "--profile", "ocicrypt");
    });

    it("opens what was wrapped for it with SHA-256, which is what we write unless told", async () => {
      expect((await run(["inspect", `oci:${tool}/sealed:it`, "--json"])).stdout).toContain("RSA-OAEP-256");
      await done("decrypt", `oci:${tool}/sealed:it`, `oci:${tool}/open:it`, "-k", `pkcs11:${tool}/mine.yaml`);
      expectOpened(`${tool}/open`);
    });

    it("opens our cipher, and SHA-1", async () => {
      await done("encrypt", "oci:plain:it", `oci:${tool}/sha1:it`, "-r", "pkcs11:mine.pub;hash=sha1");
      await done("decrypt", `oci:${tool}/sha1:it`, `oci:${tool}/sha1-open:it`, "-k", `pkcs11:${tool}/mine.yaml`);
      expectOpened(`${tool}/sha1-open`);
    });

    it.each([
      ["another key of the token", "other", 7, "ERR_KEYWRAP_NO_KEY"],
      ["a wrong PIN", "wrong-pin", 4, "ERR_KEY_SERVICE"],
    ])("is told from %s", async (_, key, status, code) => {
      const refused = await run(["decrypt", "--json", `oci:${tool}/sealed:it`, "oci:never:it", "-k", `pkcs11:${tool}/${key}.yaml`], env);
      expect(refused).toMatchObject({ status });
      expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code } });
      expect(refused.stdout + refused.stderr).not.toMatch(/5678|9999/);
    });

    it.each(["mine", ...signingKeys.map(([, label]) => label)])("signs with %s", async (label) => {
      const key = uriOf(label, "pin-value=5678");
      const settings = { ...env, NSS_LIB_PARAMS: databaseOf(folder) };
      const signed = await run(["sign", `oci:${tool}/sealed:it`, "--key", key], settings);
      expect(signed, signed.stderr).toMatchObject({ status: 0 });
      const verified = await run(["verify", `oci:${tool}/sealed:it`, "--key", key], settings);
      expect(verified, verified.stderr).toMatchObject({ status: 0 });
    });
  });

  it.skipIf(missingPeers("skopeo-1.18"))("opens what skopeo encrypts with SHA-256, and skopeo opens ours in it", async () => {
    const [{ tool, module }] = tools;
    const softokn = program(module);
    const allowed = `pkcs11:\n  module-directories:\n    - ${join(softokn, "..")}\n  allowed-module-paths:\n    - ${softokn}\n`;
    await writeFile(join(folder, "ocicrypt.conf"), allowed);
    const skopeo = (...args: readonly string[]): Buffer =>
      execFileSync(program("skopeo-1.18"), ["--policy", "policy.json", "copy", ...args], {
        cwd: folder,
        env: cleanEnvironment({ HOME: folder, OCICRYPT_CONFIG: "ocicrypt.conf", OCICRYPT_OAEP_HASHALG: "sha256" }),
        stdio: ["ignore", "pipe", "pipe"],
      });
    skopeo("--encryption-key", "pkcs11:mine.pub", "oci:plain:it", "oci:skopeo:it");
    expect((await run(["inspect", "oci:skopeo:it", "--json"])).stdout).toContain("RSA-OAEP-256");
    const env = { PATH: `${join(folder, tool)}:${process.env["PATH"]}` };
    const opened = await run(["decrypt", "oci:skopeo:it", "oci:skopeo-open:it", "-k", `pkcs11:${tool}/mine.yaml`], env);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expectOpened("skopeo-open");
    skopeo("--decryption-key", `${tool}/ocicrypt.yaml`, `oci:${tool}/sealed:it`, "oci:skopeo-theirs:it");
    expectOpened("skopeo-theirs");
  });
});

function databaseOf(folder: string): string {
  return `configDir='sql:${join(folder, "db")}' ${settings}`;
}
