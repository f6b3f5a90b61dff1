import { ToolError } from "../../src/errors/index.ts";
import { mutate, randomSource } from "./mutate.ts";

/** Something that takes foreign bytes, and good bytes to start from. */
export interface FuzzTarget {
  readonly name: string;
  /** Share of the inputs of its list. */
  readonly weight: number;
  readonly seeds: readonly Buffer[];
  readonly run: (input: Buffer) => unknown;
  /** Errors of the target's contract of which its callers make ours; none unless told. */
  readonly refuses?: (error: unknown) => boolean;
}

/** One input that ended in something else than a value or an error of ours. */
export interface FuzzFailure {
  readonly target: string;
  readonly error: unknown;
  /** Base64. */
  readonly input: string;
}

export interface FuzzResult {
  readonly ran: number;
  readonly failures: readonly FuzzFailure[];
  /** The input that took longest. */
  readonly slowest: { readonly target: string; readonly ms: number; readonly input: string };
}

/** Of one target; the others go on. */
const maxFailures = 5;

/** Whether an error may come out of a parser: one of ours, that does not say that we are broken. */
function isExpected(error: unknown): boolean {
  return error instanceof ToolError && error.category !== "internal";
}

/** Runs inputs through all targets by weight; deterministic for a seed. A target stops at its fifth failure. */
export async function fuzz(
  targets: readonly FuzzTarget[],
  options: { readonly inputs: number; readonly seed: number },
): Promise<FuzzResult> {
  const total = targets.reduce((sum, { weight }) => sum + weight, 0);
  const random = randomSource(options.seed);
  const failures: FuzzFailure[] = [];
  let slowest = { target: "", ms: 0, input: "" };
  let ran = 0;
  for (const { name, weight, seeds, run, refuses = () => false } of targets) {
    const share = Math.ceil((options.inputs * weight) / total);
    const pick = () => seeds[random.below(seeds.length)] ?? Buffer.alloc(0);
    const before = failures.length;
    for (let i = 0; i < share && failures.length - before < maxFailures; i += 1) {
      const input = mutate(pick(), pick(), random);
      const started = performance.now();
      ran += 1;
      try {
        const result = run(input);
        if (result instanceof Promise) await result;
      } catch (error) {
        if (!isExpected(error) && !refuses(error)) failures.push({ target: name, error, input: input.toString("base64") });
      }
      const ms = performance.now() - started;
      if (ms > slowest.ms) slowest = { target: name, ms, input: input.toString("base64") };
    }
  }
  return { ran, failures, slowest };
}

/** What a target says to its own seeds; mutations of rubbish find nothing. */
export async function refusedSeeds(targets: readonly FuzzTarget[]): Promise<readonly string[]> {
  const refused: string[] = [];
  for (const { name, seeds, run } of targets) {
    for (const seed of seeds) {
      try {
        await run(seed);
      } catch (error) {
        refused.push(`${name}: ${String(error)}`);
      }
    }
  }
  return refused;
}

export const text = (value: string): Buffer => Buffer.from(value, "utf8");
export const json = (value: unknown): Buffer => text(JSON.stringify(value));
