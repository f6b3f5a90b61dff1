import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { pullImage, type PullOutput, type PullRequest } from "../../src/guest/index.ts";
import { image, sign, signer, testFolder } from "./images.ts";
import { tar } from "./tar-bytes.ts";

const folder = testFolder();
const recordFile = () => folder.path("records/record.json");

async function pull(more: Partial<PullRequest> = {}) {
  const { store, root } = await image({ layers: [tar({ name: "a" })] });
  const key = await signer();
  await sign(store, root, key);
  const report = await pullImage({
    store,
    reference: "latest",
    name: "registry.example/app:latest",
    target: folder.path("out"),
    output: "rootfs",
    verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
    openKeys: async () => [],
    recordFile: recordFile(),
    now: () => new Date(0),
    ...more,
  });
  return { report, key };
}

describe("the record of a pull", () => {
  it.each<PullOutput>(["rootfs", "oci", "oci-encrypted"])(
    "of output %s says what was pulled, who vouched and how it was opened",
    async (output) => {
      const { report, key } = await pull({ output, measure: async () => undefined });
      expect(readdirSync(folder.path("records"))).toEqual(["record.json"]);
      expect(JSON.parse(readFileSync(recordFile(), "utf8"))).toMatchObject({
        version: 1,
        time: "1970-01-01T00:00:00.000Z",
        source: "registry.example/app:latest",
        resolved: report.image.target.digest,
        manifest: report.image.manifest.digest,
        signature: { basis: "signed", of: report.image.manifest.digest },
        layers: [{ kind: "plain" }],
        measurement: "measured",
        result: { ...report.result },
      });
      expect(readFileSync(recordFile(), "utf8")).toContain(key.publicKey.fingerprint);
    },
  );

  it("that cannot be written fails the pull: nothing is measured, no target stands", async () => {
    writeFileSync(folder.path("records"), "a file, not a folder");
    let measured = 0;
    const pulled = pull({
      measure: async () => {
        measured += 1;
      },
    });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_STORAGE", message: expect.stringContaining("record.json") });
    expect(measured).toBe(0);
    expect(readdirSync(folder.path())).toEqual(["records"]);
  });

  it("that cannot be put in place at the last moment leaves no target", async () => {
    const pulled = pull({ measure: async () => mkdirSync(recordFile()) });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_STORAGE" });
    expect([existsSync(folder.path("out")), readdirSync(folder.path("records"))]).toEqual([false, ["record.json"]]);
  });

  it("goes again when the target cannot be put in place", async () => {
    const pulled = pull({
      measure: async () => {
        mkdirSync(folder.path("out"));
        writeFileSync(folder.path("out/mine"), "x");
      },
    });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_TARGET_EXISTS" });
    expect([readdirSync(folder.path("out")), readdirSync(folder.path("records"))]).toEqual([["mine"], []]);
  });

  it("of an earlier pull stays when this one fails, and is replaced when it does not", async () => {
    mkdirSync(folder.path("records"));
    writeFileSync(recordFile(), "earlier");
    await expect(pull({ measure: () => Promise.reject(new Error("no agent")) })).rejects.toThrow("no agent");
    expect(readdirSync(folder.path("records"))).toEqual(["record.json"]);
    expect(readFileSync(recordFile(), "utf8")).toBe("earlier");
    await pull();
    expect(readFileSync(recordFile(), "utf8")).not.toBe("earlier");
  });

  it.each<readonly [string, string]>([
    ["in the target", "out/record.json"],
    ["the target itself", "out"],
    ["a directory", "."],
  ])("is refused before anything is fetched when its file is %s", async (_, path) => {
    const pulled = pull({ recordFile: folder.path(path), openKeys: () => Promise.reject(new Error("nobody may ask")) });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_RECORD_REFUSED", category: "usage" });
    expect(readdirSync(folder.path())).toEqual([]);
  });
});
