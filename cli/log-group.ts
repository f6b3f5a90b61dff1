import type { Shell } from "./shell.ts";

/** Folds what is written to stderr for one piece of work, where the log of a pipeline can be folded; nothing elsewhere. */
export interface LogGroup {
  open(title: string): void;
  close(): void;
}

/**
 * Source: GitHub, "Workflow commands: grouping log lines"; GitLab, "Custom collapsible sections". The titles must be
 * printable: a title could otherwise give commands to the pipeline.
 */
export function logGroup(shell: Pick<Shell, "env" | "stderr" | "quiet" | "json">, now: () => number = Date.now): LogGroup {
  const silent = { open: () => undefined, close: () => undefined };
  if (shell.quiet || shell.json) return silent;
  if (shell.env["GITHUB_ACTIONS"] === "true")
    return {
      open: (title) => void shell.stderr.write(`::group::${title}\n`),
      close: () => void shell.stderr.write("::endgroup::\n"),
    };
  if (shell.env["GITLAB_CI"] !== "true") return silent;
  let count = 0;
  const seconds = (): number => Math.floor(now() / 1000);
  return {
    open: (title) => {
      count += 1;
      shell.stderr.write(`\u001b[0Ksection_start:${seconds()}:ociseal_${count}[collapsed=true]\r\u001b[0K${title}\n`);
    },
    close: () => void shell.stderr.write(`\u001b[0Ksection_end:${seconds()}:ociseal_${count}\r\u001b[0K\n`),
  };
}
