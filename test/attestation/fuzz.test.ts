import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ToolError } from "../../src/errors/index.ts";
import { attestationTargets } from "../fuzz/attestation.ts";
import { fuzz } from "../fuzz/run.ts";

function outcomeOf(run: () => void): string {
  try {
    run();
    return "value";
  } catch (error) {
    return error instanceof ToolError ? "error of ours" : `foreign ${String(error)}`;
  }
}

describe("fuzzing", () => {
  it("100000 mutated inputs bring nothing but values and errors of ours", { timeout: 300_000 }, async () => {
    const { ran, failures } = await fuzz(attestationTargets(), { inputs: 100_000, seed: 20_261_124 });
    expect(ran).toBeGreaterThanOrEqual(100_000);
    expect(failures).toEqual([]);
  });

  it("accepts its own seeds, or the mutations would be of rubbish", () => {
    const refused = attestationTargets().flatMap(({ name, seeds, run }) => {
      if (name === "certificate" || name === "certificate table" || name === "whole check") return [];
      return seeds.flatMap((seed) => {
        try {
          run(seed);
          return [];
        } catch (error) {
          return [`${name}: ${String(error)}`];
        }
      });
    });
    expect(refused).toEqual([]);
  });

  it.each(attestationTargets().map((target) => [target.name, target] as const))(
    "random bytes do the %s parser no harm",
    (_name, target) => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
          expect(outcomeOf(() => target.run(Buffer.from(bytes)))).not.toContain("foreign");
        }),
        { numRuns: 200 },
      );
    },
  );

  it("every cut of a quote, a report and a certificate is refused, and by nothing but an error of ours", () => {
    for (const { name, seeds, run } of attestationTargets()) {
      const [seed] = seeds;
      if (!["quote", "report", "endorsement key", "revocation list"].includes(name) || seed === undefined) continue;
      for (let size = 0; size < seed.length; size += 1) expect(() => run(seed.subarray(0, size))).toThrow(ToolError);
    }
  });
});
