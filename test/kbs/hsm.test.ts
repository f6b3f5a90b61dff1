import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commandRootKey, openKbsRootKeys, openMemoryStore, parseKbsConfig, type RootKey } from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { startBench } from "./harness.ts";

const softhsmModule = "/usr/lib/softhsm/libsofthsm2.so";
const tools = ["/usr/bin/softhsm2-util", "/usr/bin/pkcs11-tool", "/usr/bin/openssl", softhsmModule];

/** Debian packages softhsm2, opensc and openssl. Says aloud what is missing; throws where `CI` is set. */
function missingHsm(): boolean {
  const missing = tools.filter((path) => !existsSync(path));
  if (missing.length === 0) return false;
  const message = `SKIPPED: tests with a PKCS#11 token: no ${missing.join(", ")} (apt-get install softhsm2 opensc openssl)`;
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

describe.skipIf(missingHsm())("a root key in a PKCS#11 token", () => {
  let folder: string;
  let root: RootKey;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-hsm-"));
    await mkdir(join(folder, "tokens"));
    const configuration = join(folder, "softhsm2.conf");
    await writeFile(configuration, `directories.tokendir = ${join(folder, "tokens")}\nobjectstore.backend = file\n`);
    const environment = { SOFTHSM2_CONF: configuration, PIN: "1234" };
    const run = (program: string, ...parameters: string[]) =>
      execFileSync(program, parameters, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
    run("/usr/bin/softhsm2-util", "--init-token", "--free", "--label", "kbs", "--pin", "1234", "--so-pin", "5678");
    const token = ["--module", softhsmModule, "--token-label", "kbs", "--login", "--pin", "env:PIN"];
    run("/usr/bin/pkcs11-tool", ...token, "--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "kbs-root");
    const publicKey = join(folder, "root.pub.der");
    run("/usr/bin/pkcs11-tool", ...token, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", publicKey);
    const oaep = ["-pkeyopt", "rsa_padding_mode:oaep"] as const;
    // Wrapping needs the public key alone; unwrapping happens in the token, and the private key never leaves it.
    root = commandRootKey({
      id: "softhsm-kbs-root",
      wrap: ["/usr/bin/openssl", "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", publicKey, ...oaep],
      unwrap: [
        "/usr/bin/pkcs11-tool",
        ...token,
        "--decrypt",
        "--mechanism",
        "RSA-PKCS-OAEP",
        "--id",
        "01",
        "--hash-algorithm",
        "SHA-1",
        "--mgf",
        "MGF1-SHA1",
      ],
      environment,
    });
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("opens a service's keys, over restarts", async () => {
    const store = openMemoryStore();
    const first = await startBench({ store, rootKeys: [root] });
    const { key } = await first.admin.registerKey("kbs:///a/b/hsm");
    await first.close();
    const again = await startBench({ store, rootKeys: [root] });
    expect(await again.guest.fetchResource("kbs:///a/b/hsm")).toEqual(key);
    await again.close();
  });

  it("takes over from a file and an environment variable, and hands over again, while guests are served without a pause", async () => {
    const file = join(folder, "root.key");
    await writeFile(file, "a1".repeat(32), { mode: 0o600 });
    const config = parseKbsConfig(
      'store = { kind = "memory" }\nroot_keys = [{ kind = "file", path = "' + file + '" }, { kind = "environment", name = "KBS_ROOT" }]\n',
    );
    const [fromFile, fromEnvironment] = (await openKbsRootKeys(config, { environment: () => "b2".repeat(32) })) ?? [];
    if (fromFile === undefined || fromEnvironment === undefined) throw new Error("two root keys were configured");
    const store = openMemoryStore();
    const bench = await startBench({ store, rootKeys: [fromFile] });
    const { key } = await bench.admin.registerKey("kbs:///a/b/hsm");
    const guests = { served: 0, stop: false };
    const serving = (async () => {
      for (; !guests.stop; guests.served += 1) expect(await bench.guest.fetchResource("kbs:///a/b/hsm")).toEqual(key);
    })();
    let former = fromFile;
    for (const next of [fromEnvironment, root, fromFile]) {
      // A root that does not open the keyring is refused, and the service goes on with the one that does.
      await expect(bench.server.reloadRootKeys([next])).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
      await bench.server.reloadRootKeys([next, former]);
      expect(await bench.admin.system.rotateRootKey()).toEqual({ root: next.id, rewrapped: 1 });
      expect(await bench.admin.system.rotateRootKey()).toEqual({ root: next.id, rewrapped: 0 });
      await bench.server.reloadRootKeys([next]);
      await expect(Keyring.open(store, [former])).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
      const before = guests.served;
      await expect.poll(() => guests.served).toBeGreaterThan(before + 1);
      former = next;
    }
    guests.stop = true;
    await serving;
    await bench.close();
    const again = await startBench({ store, rootKeys: [fromFile] });
    expect(await again.guest.fetchResource("kbs:///a/b/hsm")).toEqual(key);
    await again.close();
  });

  it("that does not know the wrapping says so", async () => {
    await expect(root.unwrap(Buffer.alloc(256, 7), Buffer.from("x"))).rejects.toMatchObject({
      code: "ERR_KBS_ROOT_KEY_UNUSABLE",
      category: "no-key",
    });
  });
});

describe("a root key behind a program", () => {
  it("opens what OpenSC 0.26 writes a remark behind", async () => {
    const remark = "OAEP parameters: hashAlg=SHA256, mgf=MGF1-SHA256, source_type=1, source_ptr=(nil), source_len=0";
    const root = commandRootKey({ id: "opensc-0.26", wrap: ["/bin/cat"], unwrap: ["/bin/sh", "-c", `cat; echo '${remark}'`] });
    const key = Buffer.alloc(32, 7);
    expect(Buffer.from(await root.unwrap(await root.wrap(key, Buffer.from("x")), Buffer.from("x")))).toEqual(key);
  });
});
