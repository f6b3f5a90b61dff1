import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, makeIndex, pushImage, type FixtureImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, type Outcome } from "./run.ts";

let folder: string;
let app: FixtureImage;
const run = (...args: readonly string[]): Promise<Outcome> => ociseal(args, { cwd: folder });

/** For two platforms; files are named by what they hold. */
async function imageOf(...files: readonly string[]): Promise<FixtureImage> {
  const platforms = ["amd64", "arm64"].map((architecture) =>
    makeImage({
      layers: files.map((file) => ({ entries: [{ kind: "file", path: file, content: `${file} ${architecture}` }] })),
      platform: { os: "linux", architecture },
    }),
  );
  return makeIndex({ images: await Promise.all(platforms) });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-layer-choice-"));
  app = await imageOf("base", "more of the base", "app");
  for (const [name, image] of [
    ["app", app],
    ["base", await imageOf("base", "more of the base")],
    ["stranger", await imageOf("stranger")],
  ] as const) {
    const layout = await openLayout({ path: join(folder, name), mode: "write", durability: "none" });
    await pushImage(layout, image, "it");
    await layout.close();
  }
  expect(await run("key", "generate", "ec", "--out", "team")).toMatchObject({ status: 0 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Which layers of each platform are encrypted. */
async function encryptedIn(name: string): Promise<readonly (readonly boolean[])[]> {
  const { stdout } = await run("inspect", `oci:${name}:it`, "--json");
  const { platforms } = JSON.parse(stdout) as { platforms: { layers: { encrypted: boolean }[] }[] };
  return platforms.map(({ layers }) => layers.map(({ encrypted }) => encrypted));
}

describe("--skip-base", () => {
  it("leaves the layers of the base image plain, on every platform, and says so", async () => {
    const made = await run("encrypt", "oci:app:it", "oci:sealed:it", "-r", "jwe:team.pub", "--skip-base", "oci:base:it");
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect(made.stdout.match(/kept \(of the base image\)/g)).toHaveLength(4);
    expect(await encryptedIn("sealed")).toEqual([
      [false, false, true],
      [false, false, true],
    ]);
    const opened = await run("decrypt", "oci:sealed:it", "oci:open:it", "-k", "team.key", "--json");
    expect(JSON.parse(opened.stdout)).toMatchObject({ result: { digest: app.descriptor.digest } });
  });

  it("encrypts everything when the base is another image's, and says so", async () => {
    const made = await run("encrypt", "oci:app:it", "oci:all:it", "-r", "jwe:team.pub", "--skip-base", "oci:stranger:it");
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect(made.stderr).toContain("no layer of oci:stranger:it is in oci:app:it: every layer is encrypted");
    expect((await encryptedIn("all")).flat()).not.toContain(false);
  });

  it.each([
    ["nothing would be left to encrypt", ["--skip-base", "oci:app:it"], 2, "ERR_LAYER_CHOICE"],
    ["layers are listed too", ["--skip-base", "oci:base:it", "--layer", "0"], 2, "ERR_USAGE"],
    ["there is no such image", ["--skip-base", "oci:nowhere:it"], 3, "ERR_STORE_NOT_FOUND"],
  ])("is refused when %s, before anything is written", async (_, flags, status, code) => {
    const refused = await run("encrypt", "oci:app:it", "oci:never:it", "-r", "jwe:team.pub", ...flags, "--json");
    expect(refused).toMatchObject({ status });
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code } });
    expect(await run("inspect", "oci:never:it")).toMatchObject({ status: 3 });
  });
});

describe("--layer", () => {
  it.each([
    ["-1", [false, false, true]],
    ["0,-2", [true, true, false]],
  ])("%s counts on every platform, negatives from the end", async (layer, expected) => {
    const name = `layer${layer.replace(/\W/g, "_")}`;
    const made = await run("encrypt", "oci:app:it", `oci:${name}:it`, "-r", "jwe:team.pub", "--layer", layer);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect(await encryptedIn(name)).toEqual([expected, expected]);
  });

  it.each(["3", "-4", "first"])("%s is refused", async (layer) => {
    const refused = await run("encrypt", "oci:app:it", "oci:never:it", "-r", "jwe:team.pub", "--layer", layer, "--json");
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: "ERR_LAYER_CHOICE" } });
  });
});
