import { serveRegistry, type AccessRule, type AuthOptions, type CollectOptions } from "../../src/registry-server/index.ts";
import type { Action } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { parseListen, untilAborted } from "../listen.ts";
import type { Shell } from "../shell.ts";
import { counted, formatSize } from "../table.ts";

interface Options {
  readonly listen: string;
  readonly storage?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
  readonly htpasswd?: string;
  readonly anonymousPull?: boolean;
  readonly pushUser?: readonly string[];
  readonly gcEvery?: string;
  readonly gcGrace: string;
  readonly gcUntagged?: boolean;
}

const minGraceMs = 60_000;
/** setInterval takes no more. */
const maxEveryMs = 2 ** 31 - 1;

/** Serves until interrupted; being interrupted is the normal end. */
export const registryServe: Action<Options> = async (shell, _args, options) => {
  const listen = parseListen(options.listen);
  const tls = await tlsOf(options);
  const auth = authOf(options);
  const collect = collectOf(shell, options);
  const server = await serveRegistry({
    listen,
    storage: options.storage === undefined ? { kind: "memory" } : { kind: "directory", path: options.storage },
    tls,
    auth,
    collect,
    log: ({ method, path, status, durationMs, code, failure }) => {
      shell.note(
        `${method} ${path} ${status} ${Math.round(durationMs)} ms${code === undefined ? "" : ` ${code}`}${failure === undefined ? "" : ` (${failure})`}`,
      );
    },
  });
  try {
    if (!["127.0.0.1", "::1", "localhost"].includes(listen.host)) warnOfOpenness(shell, { tls, auth });
    const document = { listening: server.url, storage: options.storage ?? "memory", auth: auth.kind };
    await shell.result(JSON.stringify(document), document);
    await untilAborted(shell.signal);
  } finally {
    await server.close();
  }
};

async function tlsOf({ tlsCert, tlsKey, tlsClientCa }: Options) {
  if ((tlsCert === undefined) !== (tlsKey === undefined)) throw usage("--tls-cert and --tls-key go together");
  if (tlsCert === undefined || tlsKey === undefined) {
    if (tlsClientCa !== undefined) throw usage("--tls-client-ca goes with --tls-cert and --tls-key");
    return undefined;
  }
  const [cert, key] = [await readSmallFile(tlsCert, "certificate"), await readSmallFile(tlsKey, "key")];
  return { cert, key, ...(tlsClientCa === undefined ? {} : { clientCa: await readSmallFile(tlsClientCa, "certificate") }) };
}

/**
 * Basic where everybody has a password. With anonymous pull bearer tokens, as public registries do: clients that were let
 * in without a password send none later on either, unless a challenge says that a token is to be had.
 */
function authOf({ htpasswd, anonymousPull, pushUser }: Options): AuthOptions {
  if (htpasswd === undefined) {
    if (anonymousPull === true) throw usage("--anonymous-pull goes with --htpasswd");
    if (pushUser !== undefined) throw usage("--push-user goes with --htpasswd");
    return { kind: "none" };
  }
  const everything: Omit<AccessRule, "user"> = { repository: "*", actions: ["pull", "push", "delete"] };
  const access: readonly AccessRule[] = [
    { user: anonymousPull === true ? undefined : "*", repository: "*", actions: ["pull"] },
    ...(pushUser ?? ["*"]).map((user) => ({ ...everything, user })),
  ];
  return { kind: anonymousPull === true ? "token" : "basic", htpasswd, access };
}

function collectOf(shell: Shell, { gcEvery, gcGrace, gcUntagged }: Options): CollectOptions | undefined {
  if (gcEvery === undefined) {
    if (gcUntagged === true) throw usage("--gc-untagged goes with --gc-every");
    return undefined;
  }
  const everyMs = parseDuration("--gc-every", gcEvery);
  if (everyMs < 1000 || everyMs > maxEveryMs) throw usage("--gc-every takes a time between 1s and 24d");
  const graceMs = parseDuration("--gc-grace", gcGrace);
  if (graceMs < minGraceMs) throw usage("--gc-grace takes at least 1m", "clients that push right now must have the time to finish");
  return {
    everyMs,
    graceMs,
    untagged: gcUntagged === true ? "remove" : "keep",
    report: (repositories) => {
      for (const { repository, manifests, blobs, bytes, failure } of repositories) {
        if (failure !== undefined) shell.warn(`garbage collection left ${repository} as it is: ${failure}`);
        else if (manifests.length + blobs.length > 0)
          shell.note(
            `garbage collection removed ${counted(manifests.length, "manifest")} and ${counted(blobs.length, "blob")} of ${repository}, ${formatSize(bytes)}`,
          );
      }
    },
  };
}

function warnOfOpenness(shell: Shell, { tls, auth }: { readonly tls: unknown; readonly auth: AuthOptions }): void {
  if (auth.kind === "none") shell.warn("everybody who reaches this address may pull, push and delete; --htpasswd says who may");
  else if (tls === undefined)
    shell.warn("passwords cross the network in the clear; give --tls-cert and --tls-key, unless a proxy in front has TLS");
}
