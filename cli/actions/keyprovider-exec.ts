import { collect } from "../../src/bytes/index.ts";
import { requestLimits } from "../../src/keyprovider/index.ts";
import type { Action } from "../command.ts";
import { wireProvider, type ProviderOptions } from "../key-provider.ts";

/** One request on stdin, one reply on stdout. */
export const keyproviderExec: Action<ProviderOptions> = async (shell, _args, options) => {
  const request = await collect(shell.stdin as AsyncIterable<Uint8Array>, { maxBytes: requestLimits.maxBytes, subject: "the request" });
  const wired = await wireProvider(shell, options, "exec");
  try {
    const reply = await wired.provider.answer(request, { signal: shell.signal });
    await shell.result(reply, JSON.parse(reply));
  } finally {
    await wired.close();
  }
};
