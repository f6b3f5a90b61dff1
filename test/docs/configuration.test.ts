import { expect, it } from "vitest";
import { configMembers, meaningOf } from "../../scripts/config-reference.ts";
import { configMeanings } from "../../scripts/config-meanings.ts";

it("the page on the configuration says what every member means, and of no member that there is not", () => {
  const members = configMembers();
  expect(members.length).toBeGreaterThan(100);
  expect(members.filter(({ path }) => meaningOf(path) === undefined).map(({ path }) => path)).toEqual([]);
  const paths = new Set(members.flatMap(({ path }) => [path, path.replace(/^.*\blogin\./, "login.")]));
  expect(Object.keys(configMeanings).filter((path) => !paths.has(path))).toEqual([]);
});
