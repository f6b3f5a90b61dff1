import { defineConfig } from "vitest/config";
import { sourceThreadFlags } from "./test/node-flags.ts";
import { SummaryReporter } from "./test/summary-reporter.ts";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    environment: "node",
    execArgv: [...sourceThreadFlags],
    globalSetup: "test/temporary-folder.ts",
    // A test that hangs is a failure; none is timed for speed.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", new SummaryReporter()],
  },
});
