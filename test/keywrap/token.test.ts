import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parsePkcs11Config } from "../../src/keywrap/index.ts";
import { cleanEnvironment, ociseal, type Outcome } from "../cli/run.ts";
import { plainImage, readImage } from "../layer/layout.ts";
import { missingPeers, peer } from "../peers.ts";
import { codeOf } from "./keys.ts";

const softhsm = "/usr/lib/softhsm/libsofthsm2.so";

/** Debian packages softhsm2 and opensc. Says aloud what is missing; throws where `CI` is set. */
function missingToken(): boolean {
  const missing = ["/usr/bin/softhsm2-util", "/usr/bin/pkcs11-tool", softhsm].filter((path) => !existsSync(path));
  if (missing.length === 0) return false;
  const message = `SKIPPED: keys in a PKCS#11 token: no ${missing.join(", ")} (make peers, as root on Debian)`;
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

describe.skipIf(missingToken())("a key in a PKCS#11 token (SoftHSM)", () => {
  let folder: string;
  let env: Readonly<Record<string, string>>;
  const run = (args: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    ociseal(args, { cwd: folder, env: { ...env, ...more } });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "ociseal-token-"));
    await mkdir(join(folder, "tokens"));
    env = { SOFTHSM2_CONF: join(folder, "softhsm2.conf") };
    await writeFile(env["SOFTHSM2_CONF"] ?? "", `directories.tokendir = ${join(folder, "tokens")}\n`);
    const tool = (program: string, ...args: readonly string[]): Buffer =>
      execFileSync(program, args, { env: cleanEnvironment({ ...env, PIN: "5678" }), stdio: ["ignore", "pipe", "ignore"] });
    tool("softhsm2-util", "--init-token", "--free", "--label", "layers", "--so-pin", "12345678", "--pin", "5678");
    const token = ["--module", softhsm, "--token-label", "layers"];
    for (const [label, id] of [
      ["mine", "0a"],
      ["other", "0b"],
    ] as const) {
      const made = ["--login", "--pin", "env:PIN", "--keypairgen", "--key-type", "rsa:2048", "--id", id, "--label", label];
      tool("pkcs11-tool", ...token, ...made);
    }
    await writeFile(join(folder, "mine.pub"), tool("pkcs11-tool", ...token, "--read-object", "--type", "pubkey", "--id", "0a"));
    const configure = (name: string, uri: string): Promise<void> =>
      writeFile(join(folder, name), `pkcs11:\n  uri: ${uri}\nmodule:\n  env:\n    SOFTHSM2_CONF: ${env["SOFTHSM2_CONF"] ?? ""}\n`);
    const key = (label: string): string => `pkcs11:token=layers;object=${label}?module-path=${softhsm}`;
    await configure("mine.yaml", key("mine"));
    await configure("mine-pin.yaml", `${key("mine")}&pin-source=file:${join(folder, "pin")}`);
    await configure("mine-ocicrypt.yaml", `${key("mine")}&pin-value=5678`);
    await configure("other.yaml", `${key("other")}&pin-value=5678`);
    await writeFile(join(folder, "pin"), "5678\n");
    await writeFile(join(folder, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
    plainImage(join(folder, "plain"), [Buffer.alloc(50_000, 1), Buffer.from("small")]);
    for (const recipient of ["pkcs11:mine.pub;hash=sha1", "pkcs11:mine.yaml;hash=sha1"]) {
      const target = `oci:sealed-${recipient.includes("yaml") ? "yaml" : "pub"}:it`;
      const made = await run(["encrypt", "oci:plain:it", target, "-r", recipient, "--profile", "ocicrypt"]);
      expect(made, made.stderr).toMatchObject({ status: 0 });
    }
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const expectOpened = (name: string): void => {
    expect(readImage(join(folder, name)).layers).toEqual(readImage(join(folder, "plain")).layers);
  };

  it.each([
    ["the PIN in the file that the URI names", "mine-pin.yaml", {}],
    ["the PIN in the URI, as ocicrypt has it", "mine-ocicrypt.yaml", {}],
    ["the PIN in a file", "mine.yaml:file=pin", {}],
    ["the PIN in the environment", "mine.yaml:env=MY_PIN", { MY_PIN: "5678" }],
    ["the PIN where signing looks for it", "mine.yaml", { COSIGN_PKCS11_PIN: "5678" }],
  ])("opens what was encrypted for its public key: %s", async (_, key, more) => {
    const name = `open-${key.replace(/[^a-z]/g, "")}`;
    const opened = await run(["decrypt", "oci:sealed-pub:it", `oci:${name}:it`, "-k", `pkcs11:${key}`], more);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expectOpened(name);
  });

  it("opens what was encrypted for the YAML that names it, and shows itself among the recipients", async () => {
    const opened = await run(["decrypt", "oci:sealed-yaml:it", "oci:open-by-yaml:it", "-k", "pkcs11:mine-pin.yaml"]);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expectOpened("open-by-yaml");
    expect((await run(["inspect", "oci:sealed-yaml:it"])).stdout).toContain("pkcs11");
  });

  it.each([
    ["another key of the token", "other.yaml", {}, 7, "ERR_KEYWRAP_NO_KEY"],
    ["a wrong PIN", "mine.yaml:env=MY_PIN", { MY_PIN: "9999" }, 4, "ERR_KEY_SERVICE"],
    ["no token", "mine-pin.yaml", { PATH: "/nowhere" }, 4, "ERR_KEY_SERVICE"],
    ["a PIN on the command line", "mine.yaml:pass=9999", {}, 2, "ERR_USAGE"],
    ["a public key", "mine.pub", {}, 2, "ERR_USAGE"],
  ])("is told from %s, and no PIN is repeated", async (_, key, more, status, code) => {
    const refused = await run(["decrypt", "--json", "oci:sealed-pub:it", "oci:never:it", "-k", `pkcs11:${key}`], more);
    expect(refused).toMatchObject({ status });
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code } });
    expect(refused.stdout + refused.stderr).not.toMatch(/5678|9999/);
    expect(existsSync(join(folder, "never/index.json"))).toBe(false);
  });

  it("says when the options of a layer do not fit, and when it does not do the hash", async () => {
    const small = await run(["encrypt", "oci:plain:it", "oci:never:it", "-r", "pkcs11:mine.pub", "--profile", "ocicrypt"]);
    expect(small).toMatchObject({ status: 2 });
    expect(small.stderr).toContain("at least 3072 bits");
    // Our cipher has no nonce to wrap, so its options fit; SoftHSM does SHA-1 only.
    const made = await run(["encrypt", "oci:plain:it", "oci:sha256:it", "-r", "pkcs11:mine.pub"]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const refused = await run(["decrypt", "oci:sha256:it", "oci:never:it", "-k", "pkcs11:mine-pin.yaml"]);
    expect(refused).toMatchObject({ status: 4 });
    expect(refused.stderr).toContain("hash=sha1");
  });

  const skopeos = ["skopeo-1.18", "skopeo-1.22"] as const;
  describe.skipIf(missingPeers(...skopeos))("with skopeo", () => {
    const skopeo = (name: (typeof skopeos)[number], args: readonly string[]): Outcome => {
      const settings = { ...env, HOME: folder, OCICRYPT_CONFIG: "ocicrypt.conf", OCICRYPT_OAEP_HASHALG: "sha1" };
      try {
        const stdout = execFileSync(peer(name) ?? name, ["--policy", "policy.json", "copy", ...args], {
          cwd: folder,
          env: cleanEnvironment(settings),
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        });
        return { status: 0, stdout, stderr: "" };
      } catch (error) {
        const { status, stderr } = error as { status: number; stderr: string };
        return { status, stdout: "", stderr };
      }
    };
    beforeAll(() =>
      writeFile(
        join(folder, "ocicrypt.conf"),
        `pkcs11:\n  module-directories:\n    - /usr/lib/softhsm\n  allowed-module-paths:\n    - ${softhsm}\n`,
      ),
    );

    it.each(skopeos)("opens what %s encrypts, and %s opens ours", async (name) => {
      const made = skopeo(name, ["--encryption-key", "pkcs11:mine.pub", "oci:plain:it", `oci:${name}:it`]);
      expect(made, made.stderr).toMatchObject({ status: 0 });
      const opened = await run(["decrypt", `oci:${name}:it`, `oci:${name}-open:it`, "-k", "pkcs11:mine-pin.yaml"]);
      expect(opened, opened.stderr).toMatchObject({ status: 0 });
      expectOpened(`${name}-open`);
      const theirs = skopeo(name, ["--decryption-key", "mine-ocicrypt.yaml", "oci:sealed-yaml:it", `oci:${name}-theirs:it`]);
      expect(theirs, theirs.stderr).toMatchObject({ status: 0 });
      expectOpened(`${name}-theirs`);
    });
  });
});

describe("a token's configuration", () => {
  const parse = (text: string) => parsePkcs11Config(Buffer.from(text), "token.yaml");

  it("is ocicrypt's YAML", async () => {
    expect(await parse("pkcs11:\n  uri: pkcs11:object=a\nmodule:\n  env:\n    A: b\n")).toEqual({
      uri: "pkcs11:object=a",
      env: { A: "b" },
    });
    expect(await parse("pkcs11: {uri: 'pkcs11:object=a'}")).toEqual({ uri: "pkcs11:object=a", env: {} });
  });

  it.each([
    ["no URI", "pkcs11: {}"],
    ["another URI", "pkcs11: {uri: 'https://x'}"],
    ["variables that are no text", "pkcs11: {uri: 'pkcs11:object=a'}\nmodule: {env: {A: [1]}}"],
    ["a list of variables", "pkcs11: {uri: 'pkcs11:object=a'}\nmodule: {env: [A]}"],
    ["aliases", "pkcs11: &x {uri: 'pkcs11:object=a'}\nmodule: {env: *x}"],
    ["no YAML", "pkcs11: {uri: 'pkcs11:object=a?pin-value=1234"],
    ["too much", `pkcs11: {uri: 'pkcs11:object=a'}\n#${"x".repeat(70_000)}`],
  ])("with %s is refused, and its text is not repeated", async (_, text) => {
    expect(await codeOf(() => parse(text))).toBe("ERR_KEYWRAP_KEY_MALFORMED");
    await expect(parse(text)).rejects.not.toMatchObject({ message: expect.stringContaining("1234") });
  });
});
