/**
 * The night's fuzzing: `node test/attestation/fuzz/night.ts [INPUTS] [SEED]`, ten million inputs unless told. Prints the
 * seed first, so that a failure can be made again; ends with code 1 when anything but our own errors came out.
 */
import { fuzz } from "./targets.ts";

const [inputs = "10000000", seed = String(Date.now() >>> 0)] = process.argv.slice(2);
const batch = 100_000;
console.log(`seed ${seed}, ${inputs} inputs`);
let ran = 0;
for (let i = 0; ran < Number(inputs); i += 1) {
  const result = fuzz({ inputs: Math.min(batch, Number(inputs) - ran), seed: Number(seed) + i });
  ran += result.ran;
  for (const { target, error, input } of result.failures) console.error(`${target}: ${String(error)}\n${input}`);
  if (result.failures.length > 0) process.exitCode = 1;
  console.log(`${ran} inputs, batch seed ${Number(seed) + i}, ${Math.round(process.memoryUsage.rss() / 1048576)} MiB`);
}
