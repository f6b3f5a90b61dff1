import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, constantFrom, json, jsonValue, nat, property } from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { parsePolicy, SigningError } from "../../src/signing/index.ts";
import { missingPeers, type PeerName } from "../peers.ts";
import { policyCases } from "./policy-documents.ts";
import { inParallel, removeFolder, run, temporaryFolder } from "./programs.ts";

function isAccepted(text: string): boolean {
  try {
    parsePolicy({ bytes: text, source: "policy.json" });
    return true;
  } catch (error) {
    if (error instanceof SigningError && error.code === "ERR_POLICY_MALFORMED") return false;
    throw error;
  }
}

describe("the parser of containers-policy.json", () => {
  it.each(policyCases)("agrees with containers/image on $name", ({ text, valid, deviation }) => {
    expect(isAccepted(text)).toBe(deviation === undefined ? valid : !valid);
  });

  it("names the member that is wrong", () => {
    const text = JSON.stringify({
      default: [{ type: "reject" }],
      transports: { docker: { "example.com": [{ type: "sigstoreSigned", keyPath: "/a", keyType: "x" }] } },
    });
    expect(() => parsePolicy({ bytes: text, source: "policy.json" })).toThrow(
      'policy.json is not a valid policy: transports.docker["example.com"][0].keyType is not known',
    );
  });

  it("never crashes on any JSON", () => {
    assert(
      property(json(), (text) => {
        isAccepted(text);
      }),
    );
  });

  it("never crashes on a valid policy with any one value replaced", () => {
    const valid = policyCases.filter((item) => item.valid).map(({ text }) => text);
    assert(
      property(constantFrom(...valid), nat(), jsonValue(), (text, at, replacement) => {
        let index = 0;
        const changed = JSON.stringify(JSON.parse(text), (_, value: unknown) => (index++ === at % 12 ? replacement : value));
        isAccepted(changed ?? "null");
      }),
    );
  });
});

describe.skipIf(missingPeers("skopeo-1.18", "skopeo-1.22"))("the same documents in real skopeo", () => {
  const folder = temporaryFolder();
  afterAll(() => removeFolder(folder));

  async function verdictOf(name: PeerName, file: string, text: string): Promise<string> {
    writeFileSync(join(folder, file), text);
    const { stderr } = await run(name, ["--policy", file, "copy", "dir:/nonexistent-source", "dir:/nonexistent-target"], {}, folder);
    if (stderr.includes("invalid policy")) return "invalid";
    return /nonexistent-(source|target)|rejected by policy/.test(stderr) ? "valid" : `unclear: ${stderr}`;
  }

  /** All valid documents in one: each default becomes a scope. */
  function joined(): string {
    const valid = policyCases
      .filter((item) => item.valid)
      .map(({ text }) => JSON.parse(text) as { default: unknown; transports?: Record<string, object> });
    const transports: Record<string, object> = {};
    for (const [name, scopes] of valid.flatMap(({ transports: own = {} }) => Object.entries(own)))
      transports[name] = { ...transports[name], ...scopes };
    const scopes = Object.fromEntries(valid.map((policy, i) => [`case-${i}.test`, policy.default]));
    return JSON.stringify({ default: [{ type: "reject" }], transports: { ...transports, docker: { ...transports["docker"], ...scopes } } });
  }

  it.each<PeerName>(["skopeo-1.18", "skopeo-1.22"])("%s takes what the table says is valid", async (name) => {
    expect(await verdictOf(name, `${name}-valid.json`, joined())).toBe("valid");
  });

  // A program start per document: a sample at the desk, all of them where the peers must be there anyway.
  const invalid = policyCases.filter((item) => !item.valid).filter((_, i) => process.env["CI"] !== undefined || i % 6 === 0);

  it.each<PeerName>(["skopeo-1.18", "skopeo-1.22"])("%s refuses what the table says is invalid", async (name) => {
    const verdicts = await inParallel(invalid, async (item, i) => ({
      name: item.name,
      verdict: await verdictOf(name, `${name}-${i}.json`, item.text),
    }));
    expect(verdicts).toEqual(invalid.map((item) => ({ name: item.name, verdict: "invalid" })));
  });
});
