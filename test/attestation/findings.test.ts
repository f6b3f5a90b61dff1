import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { attestationErrors, findingCodes } from "../../src/attestation/index.ts";

const read = (folder: string) =>
  readdirSync(resolve(import.meta.dirname, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => readFileSync(join(resolve(import.meta.dirname, folder), path), "utf8"))
    .join("\n");

const source = read("../../src/attestation");
const tests = read(".");

describe("findings and errors", () => {
  const uses = (text: string, code: string) => text.split(`"${code}"`).length - 1;

  it("looks at a plausible number of codes", () => {
    expect(Object.keys(findingCodes).length).toBeGreaterThan(80);
  });

  it("are all given by some check", () => {
    expect(Object.keys(findingCodes).filter((code) => uses(source, code) === 0)).toEqual([]);
    expect(Object.keys(attestationErrors).filter((code) => uses(source, code) === 0)).toEqual([]);
  });

  it("are all asked for by some test", () => {
    expect(Object.keys(findingCodes).filter((code) => uses(tests, code) === 0)).toEqual([]);
    expect(Object.keys(attestationErrors).filter((code) => uses(tests, code) === 0)).toEqual([]);
  });
});
