import { serveRegistry } from "../../src/registry-server/index.ts";
import type { Action } from "../command.ts";
import { parseListen, untilAborted } from "../listen.ts";

interface Options {
  readonly listen: string;
  readonly storage?: string;
}

/** Serves until interrupted; being interrupted is the normal end. */
export const registryServe: Action<Options> = async (shell, _args, options) => {
  const server = await serveRegistry({
    listen: parseListen(options.listen),
    storage: options.storage === undefined ? { kind: "memory" } : { kind: "directory", path: options.storage },
    log: ({ method, path, status, durationMs, code, failure }) => {
      shell.note(
        `${method} ${path} ${status} ${Math.round(durationMs)} ms${code === undefined ? "" : ` ${code}`}${failure === undefined ? "" : ` (${failure})`}`,
      );
    },
  });
  try {
    const document = { listening: server.url, storage: options.storage ?? "memory" };
    await shell.result(JSON.stringify(document), document);
    await untilAborted(shell.signal);
  } finally {
    await server.close();
  }
};
