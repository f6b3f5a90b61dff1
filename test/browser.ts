import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

/** Debian's; playwright-core brings none. */
const program = "/usr/bin/chromium";

/** Whether there is no Chromium. Says so aloud; throws where `CI` is set. */
export function missingChromium(): boolean {
  if (existsSync(program)) return false;
  const message = "SKIPPED: tests in a browser: not installed (apt-get install chromium, or make peers)";
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

/** A real Chromium without a window, that talks to nobody of its own accord. */
export function startChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: program,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
