import { readVersion } from "./version.ts";

/** The process's entry. What says no more than the version does not load the command line for it. */
export async function main(argv: readonly string[]): Promise<void> {
  const [first] = argv;
  if (argv.length === 1 && (first === "--version" || first === "-V")) {
    process.stdout.write(`${readVersion()}\n`);
    return;
  }
  const { run } = await import("./run.ts");
  await run(argv);
}
