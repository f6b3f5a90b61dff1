import { observeReader, type ContentReader, type CopyEvent } from "../src/store/index.ts";
import { formatSize } from "./table.ts";
import type { Shell } from "./shell.ts";

/** Shows events of a running command; `stop` before anything else is printed. */
export interface Progress {
  readonly onProgress: (event: CopyEvent) => void;
  stop(): void;
}

/** Runs work whose events are shown; nothing of that is left when it returns or throws. */
export async function withProgress<Result>(shell: Shell, work: (onProgress: Progress["onProgress"]) => Promise<Result>): Promise<Result> {
  const progress = await showProgress(shell);
  try {
    return await work(progress.onProgress);
  } finally {
    progress.stop();
  }
}

/** The store, telling of what is read from it; the store itself where nobody wants to know. */
export function observed(shell: Shell, store: ContentReader, onProgress: Progress["onProgress"]): ContentReader {
  return shell.quiet || shell.progress === "none" ? store : observeReader(store, onProgress);
}

const lineEveryMs = 10_000;
/** What is smaller than this (configurations, manifests) is there before a bar could be read. */
const leastBar = 64 * 1024;

/** Bars on a terminal, a line now and then elsewhere, NDJSON with `json`, silence with `--quiet` or `none`. */
export async function showProgress(shell: Shell): Promise<Progress> {
  const mode =
    shell.progress === "auto" ? (shell.stderr.isTTY === true && shell.env["CI"] === undefined ? "bar" : "plain") : shell.progress;
  if (shell.quiet || mode === "none") return { onProgress: () => undefined, stop: () => undefined };
  switch (mode) {
    case "json":
      return jsonLines(shell);
    case "plain":
      return plainLines(shell);
    case "bar":
      return bars(shell);
  }
}

function jsonLines(shell: Shell): Progress {
  return {
    onProgress(event) {
      const { digest, size, mediaType } = event.descriptor;
      shell.stderr.write(`${JSON.stringify({ ...event, descriptor: { digest, size, mediaType } })}\n`);
    },
    stop: () => undefined,
  };
}

function plainLines(shell: Shell): Progress {
  const moved = new Map<string, number>();
  const startedAt = Date.now();
  let lastLine = startedAt;
  let total = 0;
  return {
    onProgress(event) {
      const { digest, size } = event.descriptor;
      switch (event.kind) {
        case "started":
          moved.set(digest, 0);
          break;
        case "moved": {
          moved.set(digest, (moved.get(digest) ?? 0) + event.size);
          total += event.size;
          const now = Date.now();
          if (now - lastLine < lineEveryMs) break;
          lastLine = now;
          shell.stderr.write(`${formatSize(total)} done, ${formatSize(Math.round((total * 1000) / (now - startedAt)))}/s\n`);
          break;
        }
        case "finished":
          if (event.outcome === "pushed") shell.stderr.write(`${short(digest)} ${formatSize(size)}\n`);
          break;
        case "found":
        case "tagged":
          break;
      }
    },
    stop: () => undefined,
  };
}

async function bars(shell: Shell): Promise<Progress> {
  const { default: cliProgress } = await import("cli-progress");
  const container = new cliProgress.MultiBar(
    {
      stream: shell.stderr,
      clearOnComplete: false,
      hideCursor: true,
      format: " {name} {bar} {percentage}% {done}/{size} {rate}/s {eta_formatted}",
      barsize: 24,
      forceRedraw: false,
    },
    cliProgress.Presets.shades_classic,
  );
  const running = new Map<string, { readonly bar: ReturnType<typeof container.create>; startedAt: number; moved: number }>();
  // The library prints such lines with its next drawing, and none with its last.
  const waiting: string[] = [];
  container.on("redraw-pre", () => waiting.splice(0).forEach((text) => container.log(text)));
  return {
    onProgress(event) {
      const { digest, size } = event.descriptor;
      if (size < leastBar) return;
      switch (event.kind) {
        case "started": {
          const known = running.get(digest);
          if (known === undefined) {
            if (running.size === 0) shell.linesAbove((text) => waiting.push(text));
            const bar = container.create(size, 0, { name: short(digest), done: "0 B", size: formatSize(size), rate: "-" });
            running.set(digest, { bar, startedAt: Date.now(), moved: 0 });
          } else {
            known.moved = 0;
            known.startedAt = Date.now();
          }
          break;
        }
        case "moved": {
          const entry = running.get(digest);
          if (entry === undefined) break;
          entry.moved += event.size;
          const elapsed = Math.max(1, Date.now() - entry.startedAt);
          entry.bar.update(Math.min(entry.moved, size), {
            done: formatSize(entry.moved),
            rate: formatSize(Math.round((entry.moved * 1000) / elapsed)),
          });
          break;
        }
        case "finished": {
          const entry = running.get(digest);
          entry?.bar.update(size, { done: formatSize(size) });
          entry?.bar.stop();
          break;
        }
        case "found":
        case "tagged":
          break;
      }
    },
    stop: () => {
      shell.linesAbove(undefined);
      if (running.size > 0) container.stop();
      for (const text of waiting.splice(0)) shell.stderr.write(text);
    },
  };
}

function short(digest: string): string {
  return digest.slice(digest.indexOf(":") + 1, digest.indexOf(":") + 13);
}
