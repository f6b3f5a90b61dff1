import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  formatPlatform,
  hostPlatform,
  isAttestationManifest,
  mediaTypes,
  normalizePlatform,
  OciError,
  parsePlatform,
  platformDistance,
  selectPlatform,
  type Descriptor,
  type Platform,
} from "../../src/oci/index.ts";

function entry(name: string, platform?: Platform, more: Partial<Descriptor> = {}): Descriptor {
  const digest = `sha256:${Buffer.from(name).toString("hex").padEnd(64, "0")}` as const;
  return { mediaType: mediaTypes.manifest, digest, size: 1, ...(platform === undefined ? {} : { platform }), ...more };
}

function select(entries: readonly Descriptor[], wanted: string): Descriptor {
  return selectPlatform({ schemaVersion: 2, manifests: entries }, parsePlatform(wanted));
}

describe("platforms", () => {
  it.each([
    ["linux/amd64", { os: "linux", architecture: "amd64" }],
    ["Linux/x86_64", { os: "linux", architecture: "amd64" }],
    ["linux/amd64/v1", { os: "linux", architecture: "amd64" }],
    ["linux/amd64/v3", { os: "linux", architecture: "amd64", variant: "v3" }],
    ["linux/aarch64", { os: "linux", architecture: "arm64" }],
    ["linux/arm64/v8", { os: "linux", architecture: "arm64" }],
    ["linux/arm64/8", { os: "linux", architecture: "arm64" }],
    ["linux/arm", { os: "linux", architecture: "arm", variant: "v7" }],
    ["linux/arm/6", { os: "linux", architecture: "arm", variant: "v6" }],
    ["linux/armhf", { os: "linux", architecture: "arm", variant: "v7" }],
    ["linux/i386", { os: "linux", architecture: "386" }],
    ["macos/arm64", { os: "darwin", architecture: "arm64" }],
    ["linux/riscv64", { os: "linux", architecture: "riscv64" }],
  ])("reads %s", (text, platform) => {
    expect(parsePlatform(text)).toEqual(platform);
  });

  it.each(["", "linux", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v2/x", "lin ux/amd64", "linux/amd64/v\n"])(
    "refuses %j",
    (text) => {
      expect(() => parsePlatform(text)).toThrow(OciError);
    },
  );

  it("gives back what it formatted, and normalises once", () => {
    const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
    fc.assert(
      fc.property(word, word, fc.option(word, { nil: undefined }), (os, architecture, variant) => {
        const platform = normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
        expect(normalizePlatform(platform)).toEqual(platform);
        expect(parsePlatform(formatPlatform(platform))).toEqual(platform);
      }),
    );
  });

  it("takes the newest variant that runs, and none that does not", () => {
    const arm = ["v5", "v6", "v7"].map((variant) => entry(variant, { os: "linux", architecture: "arm", variant }));
    expect(select(arm, "linux/arm/v7")).toBe(arm[2]);
    expect(select(arm, "linux/arm/v6")).toBe(arm[1]);
    expect(select(arm.slice(0, 2), "linux/arm/v7")).toBe(arm[1]);
    expect(() => select(arm.slice(2), "linux/arm/v6")).toThrow(/linux\/arm\/v7/);
    const amd = ["v1", "v2", "v3"].map((variant) => entry(variant, { os: "linux", architecture: "amd64", variant }));
    expect(select(amd, "linux/amd64")).toBe(amd[0]);
    expect(select(amd, "linux/amd64/v4")).toBe(amd[2]);
    expect(() => select(arm, "linux/arm64")).toThrow(OciError);
  });

  it("does not take attestations or other things for images", () => {
    const image = entry("image", { os: "linux", architecture: "amd64" });
    const attestation = entry("att", { os: "unknown", architecture: "unknown" });
    const marked = entry(
      "mark",
      { os: "linux", architecture: "amd64" },
      { annotations: { "vnd.docker.reference.type": "attestation-manifest" } },
    );
    const blob = entry("blob", { os: "linux", architecture: "amd64" }, { mediaType: "application/vnd.example+json" });
    expect([attestation, marked, image].map(isAttestationManifest)).toEqual([true, true, false]);
    expect(select([blob, marked, attestation, image], "linux/amd64")).toBe(image);
    expect(() => select([blob, marked, attestation], "linux/amd64")).toThrow(/no images/);
  });

  it("takes the only image without a platform, but none of several", () => {
    const one = entry("one");
    expect(select([one], "linux/amd64")).toBe(one);
    expect(() => select([one, entry("two")], "linux/amd64")).toThrow(OciError);
  });

  it("minds the versions and features that Windows images ask for", () => {
    const server = entry("s", { os: "windows", architecture: "amd64", "os.version": "10.0.17763.2114" });
    const wanted: Platform = { os: "windows", architecture: "amd64" };
    expect(platformDistance(server.platform ?? wanted, wanted)).toBe(0);
    expect(platformDistance(server.platform ?? wanted, { ...wanted, "os.version": "10.0.17763" })).toBe(0);
    expect(platformDistance(server.platform ?? wanted, { ...wanted, "os.version": "10.0.1776" })).toBeUndefined();
    expect(platformDistance({ ...wanted, "os.features": ["win32k"] }, wanted)).toBeUndefined();
    expect(platformDistance({ ...wanted, "os.features": ["win32k"] }, { ...wanted, "os.features": ["win32k"] })).toBe(0);
  });

  it("names this machine as image builders do", () => {
    expect(hostPlatform("x64")).toEqual({ os: "linux", architecture: "amd64" });
    expect(hostPlatform("ppc64")).toEqual({ os: "linux", architecture: "ppc64le" });
    expect(hostPlatform("arm")).toEqual({ os: "linux", architecture: "arm", variant: "v7" });
  });
});
