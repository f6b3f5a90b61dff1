import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, makeIndex, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, startServer, type Outcome } from "./run.ts";

let folder: string;
let registry: Awaited<ReturnType<typeof startServer>>;
let kbs: Awaited<ReturnType<typeof startServer>>;
let host: string;
let kbsUrl: string;

const env = { COSIGN_PASSWORD: "correct horse" };
const run = (...args: string[]): Promise<Outcome> => ociseal(args, { cwd: folder, env });

/** The only JSON document on stdout. */
function document(outcome: Outcome): Record<string, never> & { readonly error?: { readonly code: string; readonly hint: string } } {
  return JSON.parse(outcome.stdout) as never;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-cli-"));
  const image = (architecture: string) =>
    makeImage({
      layers: [
        { entries: [{ kind: "file", path: "etc/base", content: Buffer.from("base") }] },
        { entries: [{ kind: "file", path: "app/secret", content: Buffer.from(`the secret of ${architecture}`) }] },
      ],
      platform: { os: "linux", architecture },
      run: { Entrypoint: ["/app/run"], Env: ["DB_PASSWORD=x"] },
    });
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, makeIndex({ images: [await image("amd64"), await image("arm64")] }), "app");
  await layout.close();
  registry = await startServer(["registry", "serve", "--listen", "127.0.0.1:0", "--storage", "registry"], { cwd: folder });
  kbs = await startServer(["kbs", "serve", "--dev", "--listen", "127.0.0.1:0", "--data", "kbs"], { cwd: folder });
  host = (registry.ready["listening"] ?? "").replace("http://", "");
  kbsUrl = kbs.ready["listening"] ?? "";
  for (const args of [
    ["cosign", "--out", "cosign"],
    ["cosign", "--out", "other"],
    ["ec", "--out", "team"],
    ["rsa", "--out", "stray", "--bits", "2048"],
  ]) {
    const made = await run("key", "generate", ...args);
    expect(made, made.stderr).toMatchObject({ status: 0 });
  }
});

afterAll(async () => {
  expect(await registry.stop()).toBe(0);
  expect(await kbs.stop()).toBe(0);
  await rm(folder, { recursive: true, force: true });
});

describe("the whole path", () => {
  it("seals an index with a key at the KBS, and a guest unseals its platform", async () => {
    const sealed = await run(
      ...`encrypt oci:image:app ${host}/app:1 -r kbs:///default/app-key -r jwe:team.pub`.split(" "),
      ...`--kbs ${kbsUrl} --kbs-admin-token kbs/admin.token --sign-key cosign.key --json`.split(" "),
    );
    expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
    expect(document(sealed)).toMatchObject({ keys: [{ outcome: "created" }], dryRun: false });

    const pulled = await run(
      "pull",
      `${host}/app:1`,
      "rootfs",
      "--verify-key",
      "cosign.pub",
      "--kbs",
      kbsUrl,
      "--tee",
      "sample",
      "--platform",
      "linux/arm64",
    );
    expect(pulled, pulled.stderr).toMatchObject({ status: 0 });
    expect(await readFile(join(folder, "rootfs/app/secret"), "utf8")).toBe("the secret of arm64");

    const bundle = await run(
      "pull",
      `${host}/app:1`,
      "bundle",
      "--verify-key",
      "cosign.pub",
      "-k",
      "team.key",
      "--output",
      "bundle",
      "--platform",
      "linux/amd64",
    );
    expect(bundle, bundle.stderr).toMatchObject({ status: 0 });
    expect(JSON.parse(await readFile(join(folder, "bundle/config.json"), "utf8"))).toMatchObject({ process: { args: ["/app/run"] } });
  });

  it("demands the signed statement of the plaintext, also of a layer whose own digest does not bind", async () => {
    const flags = [
      "--require-seal-attestation",
      "--verify-key",
      "cosign.pub",
      "-k",
      "team.key",
      "--platform",
      "linux/amd64",
      "--record",
      "record.json",
    ];
    const pulled = await run("pull", `${host}/app:1`, "attested", ...flags);
    expect(pulled, pulled.stderr).toMatchObject({ status: 0 });
    expect(JSON.parse(await readFile(join(folder, "record.json"), "utf8"))).toBeTruthy();
    const ctr = await run(
      "encrypt",
      "oci:image:app",
      `${host}/ctr:1`,
      "--profile",
      "ocicrypt",
      "-r",
      "jwe:team.pub",
      "--sign-key",
      "cosign.key",
    );
    expect(ctr, ctr.stderr).toMatchObject({ status: 0 });
    expect(await run("pull", `${host}/ctr:1`, "attested-ctr", ...flags)).toMatchObject({ status: 0 });
    expect(await run("copy", `${host}/app:1`, `${host}/bare:1`)).toMatchObject({ status: 0 });
    expect(await run("sign", `${host}/bare:1`, "--key", "cosign.key")).toMatchObject({ status: 0 });
    const bare = await run("pull", `${host}/bare:1`, "bare", ...flags, "--json");
    expect(bare, bare.stderr).toMatchObject({ status: 6 });
    expect(await readdir(folder)).not.toContain("bare");
  });

  it.each(["aes-256-gcm", "aes-256-ctr-hmac-sha256"])(
    "states what padded layers were, and a guest holds them to it: %s",
    async (cipher) => {
      const image = `${host}/padded-${cipher}:1`;
      const flags = ["--pad", "--cipher", cipher, "-r", "jwe:team.pub", "--sign-key", "cosign.key", "--json"];
      const sealed = await run("encrypt", "oci:image:app", image, ...flags);
      expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
      const { layers } = document(sealed) as unknown as {
        readonly layers: readonly { readonly plaintext: string; readonly source: { readonly digest: string } }[];
      };
      expect(layers).toHaveLength(4);
      for (const { plaintext, source } of layers) {
        expect(plaintext).toMatch(/^sha256:[0-9a-f]{64}$/);
        expect(plaintext).not.toBe(source.digest);
      }
      const pull = ["--require-seal-attestation", "--verify-key", "cosign.pub", "-k", "team.key", "--platform", "linux/amd64"];
      const pulled = await run("pull", image, `padded-${cipher}`, ...pull);
      expect(pulled, pulled.stderr).toMatchObject({ status: 0 });
      expect(await readFile(join(folder, `padded-${cipher}/app/secret`), "utf8")).toBe("the secret of amd64");
    },
  );

  it("verifies the source, keeps its signatures and takes its SBOM along when asked to", async () => {
    expect(await run("copy", "oci:image:app", `${host}/src:1`)).toMatchObject({ status: 0 });
    const flags = [
      "-r",
      "jwe:team.pub",
      "--sign-key",
      "cosign.key",
      "--source-key",
      "other.pub",
      "--source-signatures",
      "keep",
      "--referrers",
    ];
    expect(await run("encrypt", `${host}/src:1`, `${host}/dst:1`, ...flags)).toMatchObject({ status: 6 });
    expect((await run("inspect", `${host}/dst:1`)).status).toBe(3);
    const signed = await run("sign", `${host}/src:1`, "--key", "other.key", "--json");
    expect(signed, signed.stderr).toMatchObject({ status: 0 });
    const sealed = await run("encrypt", `${host}/src:1`, `${host}/dst:1`, ...flags);
    expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
    const seal = await run("verify", `${host}/dst:1`, "--key", "cosign.pub", "--type", "https://ociseal.dev/sealed-image/v1", "--json");
    expect(seal, seal.stderr).toMatchObject({ status: 0 });
    expect(seal.stdout).toContain('"sourceSignatures":[{');
    // The source's own signatures stand under its digest in the new repository.
    const { target } = (JSON.parse(signed.stdout) as { signed: { target: { digest: string } }[] }).signed.at(-1) ?? {
      target: { digest: "" },
    };
    const { tags } = (await (await fetch(`http://${host}/v2/dst/tags/list`)).json()) as { tags: string[] };
    expect(tags).toContain(`${target.digest.replace(":", "-")}.sig`);
  });

  it("says what is encrypted for whom, and what leaks", async () => {
    const inspected = await run("inspect", `${host}/app:1`, "--json");
    expect(inspected, inspected.stderr).toMatchObject({ status: 0 });
    const { platforms, signatures, warnings } = JSON.parse(inspected.stdout) as {
      platforms: { layers: { encrypted: boolean }[]; signatures: { kind: string }[] }[];
      signatures: { kind: string }[];
      warnings: string[];
    };
    expect(platforms.map(({ layers }) => layers.map(({ encrypted }) => encrypted))).toEqual([
      [true, true],
      [true, true],
    ]);
    expect(warnings.join("\n")).toContain("DB_PASSWORD");
    // The index is signed with its members, in both forms.
    const kinds = (of: readonly { kind: string }[]): readonly string[] => [...new Set(of.map(({ kind }) => kind))].toSorted();
    for (const list of [signatures, ...platforms.map((platform) => platform.signatures)]) expect(kinds(list)).toEqual(["referrer", "tag"]);
    expect((await run("inspect", `${host}/app:1`)).stdout.match(/signatures and referrers/g)).toHaveLength(3);
  });

  it("gives back the very image that went in", async () => {
    const decrypted = await run("decrypt", `${host}/app:1`, "oci:plain:app", "-k", "team.key", "--json");
    expect(decrypted, decrypted.stderr).toMatchObject({ status: 0 });
    const before = JSON.parse(await readFile(join(folder, "image/index.json"), "utf8")) as { manifests: { digest: string }[] };
    expect(document(decrypted)).toMatchObject({ result: { digest: before.manifests[0]?.digest } });
  });

  it("changes recipients without moving a layer", async () => {
    expect((await run("key", "generate", "ec", "--out", "partner")).status).toBe(0);
    const added = await run(
      "rewrap",
      `${host}/app:1`,
      `${host}/app:2`,
      "-k",
      "team.key",
      "--add",
      "jwe:partner.pub",
      "--remove",
      "team.pub",
      "--sign-key",
      "cosign.key",
      "--source-key",
      "cosign.pub",
    );
    expect(added, added.stderr).toMatchObject({ status: 0 });
    expect((await run("decrypt", `${host}/app:2`, "oci:partner", "-k", "partner.key")).status).toBe(0);
    expect(await run("decrypt", `${host}/app:2`, "oci:gone", "-k", "team.key")).toMatchObject({ status: 7 });
  });

  it("moves an index from a public key to a key at the KBS", async () => {
    const admin = ["--kbs", kbsUrl, "--kbs-admin-token", "kbs/admin.token"];
    expect(await run("encrypt", "oci:image:app", `${host}/scheme:1`, "-r", "jwe:team.pub")).toMatchObject({ status: 0 });
    const change = ["-k", "team.key", "--add", "kbs:///default/scheme/key", "--remove", "team.pub"];
    const moved = await run("rewrap", `${host}/scheme:1`, ...change, ...admin, "--json");
    expect(moved, moved.stderr).toMatchObject({ status: 0 });
    expect(document(moved)).toMatchObject({ keys: [{ uri: "kbs:///default/scheme/key", outcome: "created" }] });
    expect(await run("decrypt", `${host}/scheme:1`, "oci:scheme-team", "-k", "team.key")).toMatchObject({ status: 7 });
    const opened = await run("decrypt", `${host}/scheme:1`, "oci:scheme-kbs", "-k", "kbs", "--kbs", kbsUrl, "--tee", "sample", "--json");
    const before = JSON.parse(await readFile(join(folder, "image/index.json"), "utf8")) as { manifests: { digest: string }[] };
    expect(document(opened)).toMatchObject({ result: { digest: before.manifests[0]?.digest } });
  });

  it("rotates the key at the KBS, also without seeing it, and shuts the old version out", async () => {
    const admin = ["--kbs", kbsUrl, "--kbs-admin-token", "kbs/admin.token"];
    const sealed = await run("encrypt", "oci:image:app", `${host}/rot:1`, "-r", "kbs:///default/rot/key", ...admin);
    expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
    // What would be done, and no version is made, neither for a plan nor when no key at hand opens the image.
    const key = ["--rotate", "--disable-old", "-k", "kbs", "--tee", "sample"];
    const planned = await run("rewrap", `${host}/rot:1`, ...key, ...admin, "--dry-run");
    expect(planned.stdout).toMatch(/provider.attestation-agent:kbs:\/\/\/default\/rot\/key.v2/);
    expect(planned.stdout).toContain("would disable version 1 of kbs:///default/rot/key");
    expect(await run("rewrap", `${host}/rot:1`, "--rotate", "-k", "stray.key", ...admin)).toMatchObject({ status: 7 });
    const shown = await run("kbs", "key", "show", "kbs:///default/rot/key", "--kbs", kbsUrl, "--admin-token", "kbs/admin.token", "--json");
    expect(JSON.parse(shown.stdout)).toMatchObject({ currentVersion: 1, versions: [{ version: 1, state: "enabled" }] });

    const rotated = await run("rewrap", `${host}/rot:1`, `${host}/rot:2`, "--rotate", "-k", "kbs", "--tee", "sample", ...admin, "--json");
    expect(rotated, rotated.stderr).toMatchObject({ status: 0 });
    expect(JSON.stringify(document(rotated))).toContain("kbs:///default/rot/key.v2");
    // Whoever only asks for it needs no right to read a key, and sees none.
    const grants = ["--role", "ci", "--grant", "key:rotate,key:rewrap,key:state,resource:list:default/rot/**"];
    const token = await run("kbs", "token", "--subject", "ci", ...grants, "--kbs", kbsUrl, "--admin-token", "kbs/admin.token");
    expect(token, token.stderr).toMatchObject({ status: 0 });
    await writeFile(join(folder, "ci.token"), token.stdout);
    const ci = ["--kbs", kbsUrl, "--kbs-admin-token", "ci.token"];
    const foreseen = await run("rewrap", `${host}/rot:2`, "--rotate", "--server-side", "--disable-old", ...ci, "--dry-run");
    expect(foreseen.stdout).toMatch(/jwe:kbs:\/\/\/default\/rot\/key.v3[\s\S]*would disable version 2/);
    const blind = await run("rewrap", `${host}/rot:2`, `${host}/rot:3`, "--rotate", "--server-side", "--disable-old", ...ci, "--json");
    expect(blind, blind.stderr).toMatchObject({ status: 0 });
    expect(JSON.stringify(document(blind))).toContain("kbs:///default/rot/key.v3");
    expect(document(blind)).toMatchObject({ disabled: [{ key: "kbs:///default/rot/key", version: 2 }] });
    // Nothing is newer now: the image keeps its digest, and with it its signatures.
    const again = await run("rewrap", `${host}/rot:3`, "--server-side", ...ci, "--json");
    expect(document(again)).toMatchObject({ source: document(blind)["result"], result: document(blind)["result"] });
    const kbs = ["--kbs", kbsUrl, "--tee", "sample", "-k", "kbs"];
    const opened = await run("decrypt", `${host}/rot:3`, "oci:rot3", ...kbs);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expect((await run("decrypt", `${host}/rot:2`, "oci:rot2", ...kbs)).status).not.toBe(0);
    expect((await run("decrypt", `${host}/rot:1`, "oci:rot1", ...kbs)).status).toBe(0);
  });

  it("copies with signatures through an archive", async () => {
    const out = await run("copy", `${host}/app:1`, "oci-archive:app.tar", "--referrers");
    expect(out, out.stderr).toMatchObject({ status: 0 });
    const back = await run("copy", "oci-archive:app.tar", `${host}/copy:1`, "--referrers");
    expect(back, back.stderr).toMatchObject({ status: 0 });
    const verified = await run("verify", "--key", "cosign.pub", `${host}/copy:1`);
    expect(verified, verified.stderr).toMatchObject({ status: 0 });
  });
});

describe("a dry run", () => {
  it("creates, pushes and signs nothing", async () => {
    const planned = await run(
      "encrypt",
      "oci:image:app",
      `${host}/dry:1`,
      "-r",
      "kbs:///default/dry/key",
      "--kbs",
      kbsUrl,
      "--kbs-admin-token",
      "kbs/admin.token",
      "--dry-run",
      "--json",
    );
    expect(planned, planned.stderr).toMatchObject({ status: 0 });
    expect(document(planned)).toMatchObject({ dryRun: true });
    expect((await run("inspect", `${host}/dry:1`)).status).toBe(3);
    expect(
      (await run("kbs", "resource", "list", "--prefix", "default/dry", "--kbs", kbsUrl, "--admin-token", "kbs/admin.token")).stdout,
    ).toBe("");
  });
});

describe("refusals", () => {
  it.each([
    ["no recipient", ["encrypt", "oci:image:app", "oci:x"], 2, "ERR_USAGE"],
    ["a malformed name", ["inspect", "docker://HOST:port:x/Bad"], 2, "ERR_IMAGE_NAME_MALFORMED"],
    ["an unknown flag", ["inspect", "oci:image", "--nonsense"], 2, "ERR_USAGE"],
    ["a layout that is not there", ["inspect", "oci:nowhere"], 3, "ERR_STORE_NOT_FOUND"],
    ["a layer out of range", ["encrypt", "oci:image:app", "oci:x", "-r", "jwe:team.pub", "--layer", "7"], 2, "ERR_LAYER_CHOICE"],
    [
      "a value that a flag does not take",
      ["pull", "oci:image:app", "x", "--insecure-accept-unsigned", "--output", "wrong"],
      2,
      "ERR_USAGE",
    ],
    ["a name that is not in a layout", ["inspect", "oci:image:nothing"], 3, "ERR_STORE_NOT_FOUND"],
    ["a registry that is not there", ["inspect", "127.0.0.1:1/app:1"], 4, /^ERR_/],
    ["nothing to decrypt", ["decrypt", "oci:image:app", "oci:x", "-k", "team.key"], 2, "ERR_NOT_ENCRYPTED"],
    ["a pull without a verifier", ["pull", "oci:image:app", "x"], 2, "ERR_USAGE"],
    ["a key file that is not there", ["encrypt", "oci:image:app", "oci:x", "-r", "jwe:none.pub"], 9, /^ERR_SYSTEM_ENOENT$/],
  ] as const)("tells %s by its own code", async (_what, args, status, code) => {
    const outcome = await run(...args, "--json");
    expect(outcome, outcome.stderr).toMatchObject({ status });
    const { error } = document(outcome);
    expect(error?.hint).toBeTruthy();
    expect(error?.code).toMatch(code);
  });

  it("leaves no target when the signature is another's", async () => {
    const outcome = await run("pull", `${host}/app:1`, "stolen", "--verify-key", "other.pub", "--kbs", kbsUrl, "--tee", "sample", "--json");
    expect(outcome, outcome.stderr).toMatchObject({ status: 6 });
    expect(document(outcome).error?.code).toBe("ERR_SIGNATURE_REJECTED");
    expect(await readdir(folder)).not.toContain("stolen");
  });

  it("refuses to open with a stray key", async () => {
    const outcome = await run("decrypt", `${host}/app:1`, "oci:stolen", "-k", "stray.key", "--json");
    expect(outcome).toMatchObject({ status: 7 });
    expect(await readdir(folder)).not.toContain("stolen");
  });

  it("moves no tag and keeps no key on paper when the KBS refuses", async () => {
    await writeFile(join(folder, "bad.token"), "not a token");
    const outcome = await run(
      "encrypt",
      "oci:image:app",
      `${host}/never:1`,
      "-r",
      "kbs:///default/never",
      "--kbs",
      kbsUrl,
      "--kbs-admin-token",
      "bad.token",
      "--json",
    );
    expect(outcome, outcome.stderr).toMatchObject({ status: 5 });
    expect((await run("inspect", `${host}/never:1`)).status).toBe(3);
  });
});
