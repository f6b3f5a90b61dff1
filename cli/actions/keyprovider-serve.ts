import { resolve } from "node:path";
import { serveKeyProvider, type ProviderAddress, type ProviderTls } from "../../src/keyprovider/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { wireProvider, type ProviderOptions } from "../key-provider.ts";
import { parseListen, untilAborted } from "../listen.ts";

interface ServeOptions extends ProviderOptions {
  readonly listen: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
}

/** Serves until interrupted; being interrupted is the normal end. */
export const keyproviderServe: Action<ServeOptions> = async (shell, _args, options) => {
  const listen = addressOf(options.listen);
  const tls = await tlsOf(options);
  const wired = await wireProvider(shell, options, "serve");
  try {
    const server = await serveKeyProvider({
      listen,
      tls,
      provider: wired.provider,
      log: ({ method, status, code, durationMs }) =>
        shell.note(`${method} ${status} ${Math.round(durationMs)} ms${code === undefined ? "" : ` ${code}`}`),
    });
    try {
      const document = { listening: server.target, name: options.name ?? "attestation-agent" };
      await shell.result(JSON.stringify(document), document);
      await untilAborted(shell.signal);
    } finally {
      await server.close();
    }
  } finally {
    await wired.close();
  }
};

function addressOf(text: string): ProviderAddress {
  const socket = /^unix:(?:\/\/)?(.+)$/.exec(text)?.[1];
  return socket === undefined ? { kind: "tcp", ...parseListen(text) } : { kind: "unix", path: resolve(socket) };
}

async function tlsOf({ tlsCert, tlsKey, tlsClientCa }: ServeOptions): Promise<ProviderTls | undefined> {
  if (tlsCert === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw usage("--tls-cert and --tls-key go together, and --tls-client-ca needs both");
  return {
    certificate: await readSmallFile(tlsCert, "certificate"),
    privateKey: await readSmallFile(tlsKey, "private key"),
    ...(tlsClientCa === undefined ? {} : { clientAuthorities: await readSmallFile(tlsClientCa, "certificate authorities") }),
  };
}
