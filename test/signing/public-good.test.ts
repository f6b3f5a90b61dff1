import { createRequire } from "node:module";
import { describe, expect, it } from "vitest";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { toTrustMaterial } from "@sigstore/verify";
import { loadTrustedRoot, publicGoodTrustedRoot, refreshTrustedRoot } from "../../src/signing/index.ts";
import { removeFolder, temporaryFolder } from "./programs.ts";

const seeds = createRequire(import.meta.url)("@sigstore/tuf/seeds.json") as Record<string, { targets: Record<string, string> }>;

describe("the embedded root of Sigstore's public services", () => {
  it("is the one that @sigstore/tuf ships", async () => {
    const seed = Buffer.from(seeds["https://tuf-repo-cdn.sigstore.dev"]?.targets["trusted_root.json"] ?? "", "base64");
    expect((await publicGoodTrustedRoot()).document).toEqual(JSON.parse(seed.toString()));
  });

  it("is a trusted root, and its keys and certificates can be read", async () => {
    const root = await publicGoodTrustedRoot();
    loadTrustedRoot({ bytes: JSON.stringify(root.document), source: "embedded" });
    const material = toTrustMaterial(TrustedRoot.fromJSON(root.document));
    const { tlogs, ctlogs, certificateAuthorities, timestampAuthorities } = material;
    for (const part of [tlogs, ctlogs, certificateAuthorities, timestampAuthorities]) expect(part.length).toBeGreaterThan(0);
  });

  it("is refreshed only from where the caller says, and a failure says so", async () => {
    const folder = temporaryFolder();
    try {
      const failing = refreshTrustedRoot({
        cachePath: `${folder}/cache`,
        mirrorUrl: "http://127.0.0.1:1",
        rootPath: `${folder}/nothing.json`,
      });
      await expect(failing).rejects.toMatchObject({ code: "ERR_SIGNING_SERVICE" });
    } finally {
      removeFolder(folder);
    }
  });
});
