import type { Reporter, TestModule } from "vitest/node";

/** Ends the run with one plain line that every tool can read: `12 passed, 0 failed, 1 skipped`. */
export class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const counts = { passed: 0, failed: unhandled.length, skipped: 0 };
    for (const module of modules) {
      let tests = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        counts[state === "passed" ? "passed" : state === "failed" ? "failed" : "skipped"] += 1;
        tests += 1;
      }
      // A file that broke before its tests were collected has none to count.
      if (tests === 0 && module.state() === "failed") counts.failed += 1;
    }
    process.once("exit", () => process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`));
  }
}
