import { usage } from "./errors.ts";

/** Parses `HOST:PORT`, `[IPV6]:PORT` or `:PORT`. Throws `ERR_USAGE`. */
export function parseListen(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535)
    throw usage(`not an address to listen on: ${JSON.stringify(text)}`, "give HOST:PORT, for example 127.0.0.1:5000");
  const host = match[1] ?? match[2] ?? "";
  return { host: host === "" ? "0.0.0.0" : host, port };
}

/** Waits until the process is asked to end. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
