import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { copyGraph, openLayout } from "../../src/store/index.ts";
import { image } from "../guest/images.ts";
import { tar } from "../guest/tar-bytes.ts";
import { isRoot } from "../guest/trees.ts";
import { ociseal, projectFolder } from "./run.ts";

let folder: string;
let executable: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-sea-"));
  executable = join(folder, "sea/ociseal");
  execFileSync(process.execPath, ["--disable-warning=ExperimentalWarning", join(projectFolder, "scripts/sea.ts"), dirname(executable)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
}, 120_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the executable where nothing else can be found. */
function alone(args: readonly string[]) {
  return spawnSync(executable, args, { cwd: folder, env: { PATH: "/nonexistent" }, encoding: "utf8", timeout: 60_000 });
}

describe("the executable for guests", () => {
  it.skipIf(!isRoot)("starts in a root that has nothing but it and the C and C++ libraries", () => {
    const root = join(folder, "root");
    const listed = execFileSync("ldd", [executable], { encoding: "utf8" });
    for (const path of [executable, ...[...listed.matchAll(/\/\S+/g)].map(([found]) => found)]) {
      const place = join(root, path === executable ? "ociseal" : path);
      mkdirSync(dirname(place), { recursive: true });
      copyFileSync(path, place);
    }
    const started = spawnSync("chroot", [root, "/ociseal", "--version"], { encoding: "utf8", env: { PATH: process.env["PATH"] } });
    const { version } = JSON.parse(readFileSync(join(projectFolder, "package.json"), "utf8")) as { readonly version: string };
    expect(started).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: "" });
  });

  it("pulls a sealed image, with the cipher's threads that are inside it", async () => {
    // Larger than what is deciphered without a thread.
    const content = randomBytes(12 << 20);
    const { store, root } = await image({
      layers: [tar({ name: "app/", type: "5" }, { name: "app/data", data: content })],
      compression: "gzip",
    });
    const layout = await openLayout({ path: join(folder, "plain"), mode: "write", durability: "none" });
    await copyGraph({ from: store, to: layout, root, tags: ["app"] });
    await layout.close();
    await ociseal(["key", "generate", "ec", "--out", "guest"], { cwd: folder });
    const sealed = await ociseal(["encrypt", "-r", "jwe:guest.pub", "oci:plain:app", "oci:sealed:app"], { cwd: folder });
    expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
    const pulled = alone(["pull", "--insecure-accept-unsigned", "--rootless", "-k", "guest.key", "oci:sealed:app", "out"]);
    expect(pulled, pulled.stderr).toMatchObject({ status: 0 });
    expect(readFileSync(join(folder, "out/app/data")).equals(content)).toBe(true);
  });

  it("finds the programs that make what Node.js cannot", async () => {
    const { store, root } = await image({ layers: [tar({ name: "pipe", type: "6" })] });
    const layout = await openLayout({ path: join(folder, "pipes"), mode: "write", durability: "none" });
    await copyGraph({ from: store, to: layout, root, tags: ["app"] });
    await layout.close();
    const made = alone(["unpack", "--rootless", "oci:pipes:app", "with-pipe"]);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect(statSync(join(folder, "with-pipe/pipe")).isFIFO()).toBe(true);
  });

  it("says what is wrong and how it ended, as the command line does", () => {
    const refused = alone(["--json", "pull", "oci:sealed:app", "other"]);
    expect(refused.status).toBe(2);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: "ERR_USAGE" } });
  });
});
