import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { allowedLicenses, licences, runtimePackages } from "../../scripts/package-gates.ts";

const root = resolve(import.meta.dirname, "../..");

it("what is installed with the package is little, under licences that go with it, and listed", () => {
  const packages = runtimePackages(root);
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string> };
  const names = new Set(packages.map(({ name }) => name));
  expect(Object.keys(dependencies).filter((name) => !names.has(name))).toEqual([]);
  expect(packages.length).toBeLessThan(60);
  expect(licences(root)).toBeUndefined();
  expect(allowedLicenses.has("AGPL-3.0-only")).toBe(false);
  const page = readFileSync(join(root, "docs/reference/licences.md"), "utf8");
  for (const { name, version } of packages) expect(page).toContain(`| ${name} | ${version} |`);
});
