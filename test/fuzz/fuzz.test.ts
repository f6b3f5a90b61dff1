import { describe, expect, it } from "vitest";
import { allTargets } from "./all.ts";
import { fuzz, json, refusedSeeds } from "./run.ts";

const lists = Object.entries(await allTargets());

/** Seeds that are refused on purpose: what comes after the refusal is not reached by this target alone. */
const refusedOnPurpose = new Set(["certificate", "certificate table", "whole check", "seal predicate"]);

describe("every parser of foreign bytes", () => {
  it("is there", () => {
    const names = lists.flatMap(([list, targets]) => targets.map(({ name }) => `${list}: ${name}`));
    expect(names.length).toBeGreaterThan(90);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(lists)("%s: mutated inputs bring nothing but values and errors of ours", { timeout: 120_000 }, async (_list, targets) => {
    const { ran, failures } = await fuzz(targets, { inputs: 6000, seed: 20_261_124 });
    expect(ran).toBeGreaterThanOrEqual(6000);
    expect(failures).toEqual([]);
  });

  it.each(lists)("%s: seeds are accepted, or the mutations would be of rubbish", async (_list, targets) => {
    expect(await refusedSeeds(targets.filter(({ name }) => !refusedOnPurpose.has(name)))).toEqual([]);
  });

  it("would be reported if it threw something else, with the input that does it again", async () => {
    const broken = {
      name: "broken",
      weight: 1,
      seeds: [json({})],
      run: () => {
        throw new TypeError("not ours");
      },
    };
    const { failures } = await fuzz([broken], { inputs: 3, seed: 1 });
    expect(failures.length).toBe(3);
    const again = await fuzz([broken], { inputs: 3, seed: 1 });
    expect(again.failures.map(({ input }) => input)).toEqual(failures.map(({ input }) => input));
  });
});
