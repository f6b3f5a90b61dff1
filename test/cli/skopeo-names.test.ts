import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeHelloImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { skopeoHint } from "../../cli/skopeo-flags.ts";
import { missingPeers, peer } from "../peers.ts";
import { ociseal } from "./run.ts";

let folder: string;

async function run(...args: readonly string[]): Promise<string> {
  const outcome = await ociseal(args, { cwd: folder });
  expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
  return outcome.stdout;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-skopeo-"));
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, await makeHelloImage("hi\n", "amd64"), "app");
  await layout.close();
  await run("key", "generate", "rsa", "--out", "team");
});

afterAll(async () => rm(folder, { recursive: true, force: true }));

describe("a pipeline with skopeo's flags, one word changed", () => {
  it("encrypts on the way, for readers of ocicrypt, and decrypts on the way back", async () => {
    await run("copy", "--encryption-key", "jwe:team.pub", "oci:image:app", "oci:sealed:app");
    expect(await run("lint", "--profile", "ocicrypt", "oci:sealed:app")).toBeTruthy();
    await run("copy", "--decryption-key", "team.key", "oci:sealed:app", "oci:opened:app");
    const digests = await Promise.all(["image", "opened"].map(async (name) => digestOf(await run("inspect", "--json", `oci:${name}:app`))));
    expect(digests[0]).toBe(digests[1]);
  });

  it("encrypts one layer with --encrypt-layer, on copy and on encrypt", async () => {
    for (const command of ["copy", "encrypt"]) {
      const flags = ["--encryption-key", "jwe:team.pub", "--encrypt-layer", "-1"];
      await run(command, ...flags, "oci:image:app", `oci:${command}-one:app`);
      const { platforms } = JSON.parse(await run("inspect", "--json", `oci:${command}-one:app`)) as {
        platforms: { layers: { encrypted: boolean }[] }[];
      };
      const encrypted = platforms[0]?.layers.map((layer) => layer.encrypted) ?? [];
      expect(encrypted.at(-1)).toBe(true);
      expect(encrypted.slice(0, -1)).not.toContain(true);
    }
  });

  it.skipIf(missingPeers("skopeo-1.22"))("is told what to write instead of every other flag of skopeo copy", async () => {
    const known: readonly string[] = (await run("copy", "--help")).match(/--[a-z-]+/g) ?? [];
    const { stdout } = spawnSync(peer("skopeo-1.22") ?? "", ["copy", "--help"], { encoding: "utf8" });
    const theirs = [...stdout.matchAll(/^ +(?:(-[a-z]), )?(--[a-z-]+)/gm)].flatMap(([, short, long = ""]) => [short, long]);
    const flags = theirs.filter((flag) => flag !== undefined && flag !== "-h" && !known.includes(flag) && flag !== "--all");
    expect(flags.length).toBeGreaterThan(30);
    // Of docker's daemon, of folders of blobs that layouts share, of other key formats: nothing here is like them.
    const without = flags.filter((flag) => skopeoHint(String(flag)) === undefined);
    expect(without.join(" ")).toBe(
      "--dest-daemon-host --dest-oci-accept-uncompressed-layers --dest-precompute-digests --dest-shared-blob-dir " +
        "--sign-identity --sign-passphrase-file --src-daemon-host --src-shared-blob-dir",
    );
  });

  it("is told so in the hint, not in a guess", async () => {
    const refused = await ociseal(["copy", "--src-tls-verify=false", "oci:image:app", "oci:never:app"], { cwd: folder });
    expect(refused).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/unknown option '--src-tls-verify=false'.*\nhint: {2}give --plain-http HOST/),
    });
    const mistyped = await ociseal(["copy", "--platfrom", "linux/amd64", "oci:image:app", "oci:never:app"], { cwd: folder });
    expect(mistyped).toMatchObject({ status: 2, stderr: expect.stringContaining("Did you mean --platform?") });
  });

  it("says what does not go together", async () => {
    const images = ["oci:image:app", "oci:never:app"];
    const both = await ociseal(["copy", "--encryption-key", "jwe:team.pub", "--decryption-key", "team.key", ...images], { cwd: folder });
    expect(both).toMatchObject({ status: 2, stderr: expect.stringContaining("rewrap") });
    const alone = await ociseal(["copy", "--encrypt-layer", "0", ...images], { cwd: folder });
    expect(alone).toMatchObject({ status: 2, stderr: expect.stringContaining("--encryption-key") });
  });
});

function digestOf(text: string): string | undefined {
  return (JSON.parse(text) as { platforms: { manifest: { digest: string } }[] }).platforms[0]?.manifest.digest;
}
