import { describe, expect, it } from "vitest";
import { ToolError } from "../../src/errors/index.ts";
import {
  checkManifestSize,
  guessManifestMediaType,
  mediaTypes,
  parseImageConfig,
  parseIndex,
  parseManifest,
  serializeJson,
} from "../../src/oci/index.ts";

const digest = `sha256:${"ab".repeat(32)}`;
const config = { mediaType: mediaTypes.config, digest, size: 2 };
const layer = { mediaType: mediaTypes.layerTarGzip, digest, size: 3 };
const manifest = { schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [layer] };
const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [{ ...config, mediaType: mediaTypes.manifest }] };

function failure(action: () => unknown): ToolError {
  try {
    action();
  } catch (error) {
    if (error instanceof ToolError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("manifests and indexes", () => {
  it("are read with and without their own media type, as OCI allows and Docker does not", () => {
    const { mediaType: _, ...untyped } = manifest;
    expect(parseManifest(serializeJson(untyped), mediaTypes.manifest)).toEqual(untyped);
    expect(failure(() => parseManifest(serializeJson(untyped), mediaTypes.dockerManifest)).code).toBe("ERR_MANIFEST_MALFORMED");
    const docker = { ...manifest, mediaType: mediaTypes.dockerManifest };
    expect(parseManifest(serializeJson(docker), mediaTypes.dockerManifest)).toEqual(docker);
    expect(parseIndex(serializeJson(index), mediaTypes.index)).toEqual(index);
  });

  it("are empty where Go wrote null for no entries", () => {
    expect(parseManifest(serializeJson({ ...manifest, layers: null }), mediaTypes.manifest)).toEqual({ ...manifest, layers: [] });
    expect(parseIndex(Buffer.from('{"schemaVersion":2,"manifests":null}'), mediaTypes.index).manifests).toEqual([]);
    expect(failure(() => parseIndex(Buffer.from('{"schemaVersion":2}'), mediaTypes.index)).code).toBe("ERR_MANIFEST_MALFORMED");
  });

  it.each<readonly [string, unknown, string, string]>([
    ["calls itself something else", { ...manifest, mediaType: mediaTypes.index }, mediaTypes.manifest, "ERR_MANIFEST_MALFORMED"],
    ["is both a manifest and an index", { ...manifest, manifests: [] }, mediaTypes.manifest, "ERR_MANIFEST_MALFORMED"],
    ["is schema 1", { schemaVersion: 1, name: "a", fsLayers: [] }, mediaTypes.manifest, "ERR_MANIFEST_UNSUPPORTED"],
    ["has no schema version", { config, layers: [] }, mediaTypes.manifest, "ERR_MANIFEST_UNSUPPORTED"],
    ["has a size of 2^62", { ...manifest, layers: [{ ...layer, size: 2 ** 62 }] }, mediaTypes.manifest, "ERR_MANIFEST_MALFORMED"],
    ["has a negative size", { ...manifest, layers: [{ ...layer, size: -1 }] }, mediaTypes.manifest, "ERR_MANIFEST_MALFORMED"],
    [
      "has a path for a digest",
      { ...manifest, layers: [{ ...layer, digest: "sha256:../../x" }] },
      mediaTypes.manifest,
      "ERR_MANIFEST_MALFORMED",
    ],
    [
      "has too many layers",
      { ...manifest, layers: Array.from({ length: 10_001 }, () => 1) },
      mediaTypes.manifest,
      "ERR_MANIFEST_MALFORMED",
    ],
    ["is of a foreign type", manifest, "application/vnd.example+json", "ERR_MANIFEST_UNSUPPORTED"],
  ])("are refused when one %s", (_, document, mediaType, code) => {
    expect(failure(() => parseManifest(serializeJson(document), mediaType)).code).toBe(code);
  });

  it("of schema 1 are refused with the way out, by type and by content", () => {
    const byType = failure(() => parseManifest(Buffer.alloc(0), "application/vnd.docker.distribution.manifest.v1+prettyjws"));
    const byContent = failure(() => guessManifestMediaType(serializeJson({ schemaVersion: 1 })));
    for (const error of [byType, byContent]) {
      expect(error.code).toBe("ERR_MANIFEST_UNSUPPORTED");
      expect(error.hint).toMatch(/push the image again/);
    }
  });

  it("without a type are known by their shape", () => {
    const { mediaType: _, ...untyped } = manifest;
    const { mediaType: __, ...untypedIndex } = index;
    expect(guessManifestMediaType(serializeJson(untyped))).toBe(mediaTypes.manifest);
    expect(guessManifestMediaType(serializeJson(untypedIndex))).toBe(mediaTypes.index);
    expect(guessManifestMediaType(serializeJson({ ...manifest, mediaType: mediaTypes.dockerManifest }))).toBe(mediaTypes.dockerManifest);
    expect(failure(() => guessManifestMediaType(serializeJson({ schemaVersion: 2 }))).code).toBe("ERR_MANIFEST_MALFORMED");
  });

  it("too large for registries are refused before anything is sent, with what each recipient costs", () => {
    checkManifestSize({ size: 4 * 1024 * 1024, layers: 10, recipients: 1 });
    const error = failure(() => checkManifestSize({ size: 5_000_000, layers: 1200, recipients: 3, annotationBytes: 4_200_000 }));
    expect(error.code).toBe("ERR_MANIFEST_TOO_LARGE");
    expect(error.message).toContain("5000000 bytes");
    expect(error.message).toContain("about 1167 per layer and recipient");
    expect(error.hint).toContain("fewer recipients");
  });
});

describe("image configurations", () => {
  it("are read as Docker writes them, null for nothing", () => {
    const parsed = parseImageConfig(
      serializeJson({
        architecture: "amd64",
        os: "linux",
        config: {
          Env: ["PATH=/bin"],
          Cmd: null,
          Entrypoint: ["/x"],
          Labels: { a: "b" },
          ExposedPorts: { "80/tcp": {} },
          Volumes: null,
          OnBuild: null,
        },
        rootfs: { type: "layers", diff_ids: [digest] },
        history: [{ created_by: "x", empty_layer: true, comment: null }],
        container: "unknown member",
      }),
    );
    expect(parsed).toEqual({
      architecture: "amd64",
      os: "linux",
      config: { Env: ["PATH=/bin"], Entrypoint: ["/x"], Labels: { a: "b" }, ExposedPorts: ["80/tcp"] },
      rootfs: { type: "layers", diff_ids: [digest] },
      history: [{ created_by: "x", empty_layer: true }],
    });
  });

  it.each([
    ["no root file system", { architecture: "a", os: "b" }],
    ["another kind of root file system", { architecture: "a", os: "b", rootfs: { type: "squash", diff_ids: [] } }],
    ["no architecture", { os: "b", rootfs: { type: "layers", diff_ids: [] } }],
    ["a diffID that is none", { architecture: "a", os: "b", rootfs: { type: "layers", diff_ids: ["x"] } }],
    ["a command that is text", { architecture: "a", os: "b", config: { Cmd: "sh" }, rootfs: { type: "layers", diff_ids: [] } }],
    ["an environment of numbers", { architecture: "a", os: "b", config: { Env: [1] }, rootfs: { type: "layers", diff_ids: [] } }],
    ["a label that is a number", { architecture: "a", os: "b", config: { Labels: { a: 1 } }, rootfs: { type: "layers", diff_ids: [] } }],
    ["history that is text", { architecture: "a", os: "b", history: "x", rootfs: { type: "layers", diff_ids: [] } }],
  ])("with %s are refused", (_, value) => {
    expect(failure(() => parseImageConfig(serializeJson(value))).code).toBe("ERR_MANIFEST_MALFORMED");
  });
});
