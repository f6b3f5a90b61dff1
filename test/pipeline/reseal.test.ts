import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, makeReferrer, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, startServer, type Outcome } from "../cli/run.ts";

const sealType = "https://ociseal.dev/sealed-image/v1";
let folder: string;
let registry: Awaited<ReturnType<typeof startServer>>;
let host: string;
let plain: string;

const run = (...args: readonly string[]): Promise<Outcome> => ociseal(args, { cwd: folder, env: { COSIGN_PASSWORD: "correct horse" } });

async function done(...args: readonly string[]): Promise<Outcome> {
  const outcome = await run(...args);
  expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
  return outcome;
}

interface Seal {
  readonly plaintext: { readonly digest: string };
  readonly layers: readonly { readonly ciphertext: string; readonly plaintext: string }[];
  readonly recipients: readonly string[];
  readonly referrers: readonly { readonly source: string; readonly bound: string }[];
}

/** The one attestation of an image, verified by our own command. */
async function sealOf(name: string): Promise<Seal> {
  const { stdout } = await done("verify", name, "--key", "cosign.pub", "--type", sealType, "--json");
  const { findings } = JSON.parse(stdout) as { findings: { verdict: string; claims: { predicate: Seal } }[] };
  const [only, ...others] = findings.filter(({ verdict }) => verdict === "counts");
  if (only === undefined || others.length > 0) throw new Error(`not one attestation: ${stdout}`);
  return only.claims.predicate;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-reseal-"));
  const image = await makeImage({ layers: [{ entries: [{ kind: "file", path: "app/secret", content: Buffer.from("secret") }] }] });
  plain = image.descriptor.digest;
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, image, "app");
  await pushImage(layout, makeReferrer(image.descriptor, "application/vnd.example.sbom+json", '{"sbom":true}'));
  await layout.close();
  registry = await startServer(["registry", "serve", "--listen", "127.0.0.1:0"], { cwd: folder });
  host = (registry.ready["listening"] ?? "").replace("http://", "");
  for (const name of ["cosign", "other"]) await done("key", "generate", "cosign", "--out", name);
  for (const name of ["team", "partner"]) await done("key", "generate", "ec", "--out", name);
  await done("encrypt", "oci:image:app", `${host}/app:1`, "-r", "jwe:team.pub", "--sign-key", "cosign.key", "--referrers");
});

afterAll(async () => {
  expect(await registry.stop()).toBe(0);
  await rm(folder, { recursive: true, force: true });
});

const change = ["-k", "team.key", "--add", "jwe:partner.pub", "--remove", "team.pub"];

describe("rewrapping a sealed image that was signed", () => {
  it("renews its seal attestation: same plaintext and layers, the new recipients, and the SBOM follows", async () => {
    const before = await sealOf(`${host}/app:1`);
    await done("rewrap", `${host}/app:1`, `${host}/app:2`, ...change, "--sign-key", "cosign.key", "--source-key", "cosign.pub");
    const after = await sealOf(`${host}/app:2`);
    expect({ ...after, recipients: [], referrers: [], sealedAt: "" }).toEqual({ ...before, recipients: [], referrers: [], sealedAt: "" });
    expect(after.plaintext.digest).toBe(plain);
    expect(after.recipients).toHaveLength(1);
    expect(after.recipients).not.toEqual(before.recipients);
    expect(after.referrers.map(({ source }) => source)).toEqual(before.referrers.map(({ source }) => source));
    expect(after.referrers.map(({ bound }) => bound)).not.toEqual(before.referrers.map(({ bound }) => bound));
    // What a guest does that demands the statement.
    await done("pull", `${host}/app:2`, "rootfs", "--verify-key", "cosign.pub", "-k", "partner.key");
  });

  it("into another repository takes everything along that the statement names", async () => {
    await done("rewrap", `${host}/app:1`, `${host}/elsewhere:1`, ...change, "--sign-key", "cosign.key", "--source-key", "cosign.pub");
    const { referrers } = await sealOf(`${host}/elsewhere:1`);
    const reply = await fetch(`http://${host}/v2/elsewhere/manifests/${referrers[0]?.bound ?? ""}`, {
      headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
    });
    expect(reply.status).toBe(200);
  });

  it("gives none to an image that had none, and says so", async () => {
    await done("encrypt", "oci:image:app", `${host}/bare:1`, "-r", "jwe:team.pub");
    await done("sign", `${host}/bare:1`, "--key", "cosign.key");
    const flags = ["--sign-key", "cosign.key", "--source-key", "cosign.pub"];
    const { stderr } = await done("rewrap", `${host}/bare:1`, `${host}/bare:2`, ...change, ...flags);
    expect(stderr).toContain("no seal attestation");
    await done("verify", `${host}/bare:2`, "--key", "cosign.pub");
    expect(await run("verify", `${host}/bare:2`, "--key", "cosign.pub", "--type", sealType)).toMatchObject({ status: 6 });
  });

  it("without a signature says what stays with the old manifest", async () => {
    const { stderr } = await done("rewrap", `${host}/app:1`, `${host}/app:3`, ...change);
    expect(stderr).toMatch(/of the old manifest, and staying with it/);
  });
});

describe("a destination named by digest", () => {
  const digest = `sha256:${"0".repeat(64)}`;

  it.each([
    ["encrypt", ["oci:image:app"], ["-r", "jwe:team.pub"]],
    ["rewrap", ["oci:sealed:app"], change],
  ] as const)("is refused by %s before any work", async (command, source, flags) => {
    await done("encrypt", "oci:image:app", "oci:sealed:app", "-r", "jwe:team.pub");
    const refused = await run(command, ...source, `${host}/digest:1@${digest}`, ...flags, "--json");
    expect(refused).toMatchObject({ status: 2 });
    expect(refused.stdout).toContain("demands a digest");
    expect(await run("inspect", `${host}/digest:1`)).toMatchObject({ status: 3 });
  });

  it("must be what decrypting gives", async () => {
    const wrong = await run("decrypt", `${host}/app:1`, `${host}/open:1@${digest}`, "-k", "team.key", "--json");
    expect(JSON.parse(wrong.stdout)).toMatchObject({ error: { code: "ERR_IMAGE_DIGEST_UNEXPECTED" } });
    expect(await run("inspect", `${host}/open:1`)).toMatchObject({ status: 3 });
    await done("decrypt", `${host}/app:1`, `${host}/open:1@${plain}`, "-k", "team.key");
  });
});
