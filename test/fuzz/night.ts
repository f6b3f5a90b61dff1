/**
 * `make fuzz`: mutated inputs for every parser, for as long as is said. `node test/fuzz/night.ts [--seconds N] [--seed N] [--only WORD]`.
 * Prints the seed of each round, so that a failure can be made again; ends with code 1 when anything but a value or an
 * error of ours came out, and names inputs that took long.
 */
import { parseArgs } from "node:util";
import { allTargets } from "./all.ts";
import { fuzz } from "./run.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() >>> 0) },
    only: { type: "string", default: "" },
  },
});
const until = performance.now() + Number(values.seconds) * 1000;
const slowMs = 500;
const lists = Object.entries(await allTargets()).map(
  ([list, targets]) => [list, targets.filter(({ name }) => `${list} ${name}`.includes(values.only))] as const,
);
let ran = 0;
for (let seed = Number(values.seed); performance.now() < until; seed += 1) {
  for (const [list, targets] of lists) {
    if (targets.length === 0) continue;
    const result = await fuzz(targets, { inputs: 5000, seed });
    ran += result.ran;
    for (const { target, error, input } of result.failures) {
      process.exitCode = 1;
      console.error(
        `${list}, ${target}, seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n${input}`,
      );
    }
    const { target, ms, input } = result.slowest;
    if (ms > slowMs) console.log(`${list}, ${target}, seed ${seed}: ${Math.round(ms)} ms for one input\n${input.slice(0, 2000)}`);
  }
  console.log(`seed ${seed}: ${ran} inputs so far, ${Math.round(process.memoryUsage.rss() / 1048576)} MiB`);
}
