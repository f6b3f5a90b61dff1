import { describe, expect, it } from "vitest";
import { checkPolicy, parseRegistriesD, usesAttachments } from "../../src/signing/index.ts";
import { pem, policyCases } from "./policy-documents.ts";

const keyData = Buffer.from(pem).toString("base64");

function check(document: object, registriesD?: Awaited<ReturnType<typeof parseRegistriesD>>) {
  return checkPolicy({ bytes: JSON.stringify(document), source: "policy.json", registriesD });
}

const scoped = (requirement: object, scope = "example.com") => ({
  default: [{ type: "reject" }],
  transports: { docker: { [scope]: [requirement] } },
});

describe("the check of a policy", () => {
  it.each(policyCases.filter(({ deviation }) => deviation === undefined))("gives skopeo's verdict on $name", ({ text, valid }) => {
    const { verdicts } = checkPolicy({ bytes: text, source: "policy.json" });
    expect(verdicts.skopeo).toBe(valid ? "valid" : "invalid");
  });

  it("says that image-rs passes over log keys, and skopeo 1.9 refuses the file", () => {
    const report = check(
      scoped({ type: "sigstoreSigned", keyPath: "/k", rekorPublicKeyPath: "/r", signedIdentity: { type: "matchRepository" } }),
    );
    expect(report.verdicts).toEqual({ ociseal: "valid", skopeo: "valid", "skopeo-1.9": "invalid", "image-rs": "valid" });
    const where = 'transports.docker["example.com"][0].rekorPublicKeyPath';
    expect(report.remarks).toContainEqual(expect.objectContaining({ reader: "image-rs", effect: "weaker", where }));
  });

  it("says that an empty list is invalid for skopeo and allows everything for image-rs", () => {
    const report = check({ default: [], transports: {} });
    expect(report.verdicts).toMatchObject({ skopeo: "invalid", "image-rs": "valid" });
    expect(report.remarks).toContainEqual(expect.objectContaining({ reader: "image-rs", effect: "weaker", where: "default" }));
  });

  it("says that image-rs demands transports, and that it checks no repository without signedIdentity", () => {
    const report = check({ default: [{ type: "sigstoreSigned", keyPath: "/k" }] });
    expect(report.verdicts).toMatchObject({ skopeo: "valid", "image-rs": "invalid" });
    expect(report.remarks).toContainEqual(
      expect.objectContaining({ reader: "image-rs", effect: "weaker", where: "default[0].signedIdentity" }),
    );
  });

  it("tells the two readings of keyData apart", () => {
    expect(check(scoped({ type: "sigstoreSigned", keyData })).remarks).toContainEqual(
      expect.objectContaining({ reader: "image-rs", effect: "stricter", where: 'transports.docker["example.com"][0].keyData' }),
    );
    expect(check(scoped({ type: "sigstoreSigned", keyData: pem })).verdicts).toMatchObject({
      ociseal: "valid",
      skopeo: "invalid",
      "image-rs": "valid",
    });
  });

  it("warns of a scope that no image falls under", () => {
    const unreachable = (scope: string) => check(scoped({ type: "reject" }, scope)).remarks.some(({ effect }) => effect === "weaker");
    expect(["busybox", "library/busybox", "index.docker.io/library/busybox"].map(unreachable)).toEqual([true, true, true]);
    expect(
      ["docker.io", "docker.io/library/busybox", "localhost/app", "localhost:5000", "example.com/a/b:tag", "*.example.com"].map(
        unreachable,
      ),
    ).toEqual(Array.from({ length: 6 }, () => false));
  });

  it("says when registries.d keeps skopeo from looking for signatures", async () => {
    const policy = scoped({ type: "sigstoreSigned", keyPath: "/k", signedIdentity: { type: "matchRepository" } }, "example.com/team");
    const off = await parseRegistriesD([]);
    const on = await parseRegistriesD([{ bytes: "docker:\n  example.com:\n    use-sigstore-attachments: true\n", source: "a.yaml" }]);
    const says = (registriesD: typeof off) =>
      check(policy, registriesD).remarks.some(({ message }) => message.includes("use-sigstore-attachments"));
    expect([says(off), says(on)]).toEqual([true, false]);
  });
});

describe("registries.d", () => {
  it("lets the most specific scope that speaks decide", async () => {
    const registriesD = await parseRegistriesD([
      { bytes: "default-docker:\n  use-sigstore-attachments: true\n", source: "a.yaml" },
      {
        bytes: "docker:\n  example.com/off:\n    use-sigstore-attachments: false\n  example.com/silent:\n    lookaside: https://x\n",
        source: "b.yaml",
      },
    ]);
    const uses = (reference: string) => usesAttachments(registriesD, { transport: "docker", reference });
    expect(["example.com/on:1", "example.com/off/app:1", "example.com/silent:1"].map(uses)).toEqual([true, false, true]);
  });

  it.each([
    ["a list", "- a"],
    ["no YAML", "a: [b"],
    ["a setting that is no boolean", "default-docker:\n  use-sigstore-attachments: maybe"],
    ["a scope that is no map", "docker:\n  example.com: true"],
  ])("refuses %s", async (_, bytes) => {
    await expect(parseRegistriesD([{ bytes, source: "a.yaml" }])).rejects.toMatchObject({ code: "ERR_REGISTRIES_D_MALFORMED" });
  });

  it("refuses a scope that two files define", async () => {
    const bytes = "docker:\n  example.com:\n    use-sigstore-attachments: true\n";
    await expect(parseRegistriesD(["a.yaml", "b.yaml"].map((source) => ({ bytes, source })))).rejects.toMatchObject({
      code: "ERR_REGISTRIES_D_MALFORMED",
    });
  });
});
