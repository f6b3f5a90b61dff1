import { stat } from "node:fs/promises";
import { connect } from "node:net";
import { parseProviderConfig, type ProviderTarget } from "../../src/keywrap/index.ts";
import type { Shell } from "../shell.ts";
import { programPath, textOf } from "./files.ts";
import { findingsOf, reasonOf, type Add, type Examination } from "./finding.ts";

const connectMs = 3000;

/** The file that `OCICRYPT_KEYPROVIDER_CONFIG` names, and whether what it names is there. */
export const examineKeyprovider: Examination = async ({ shell, asked }) => {
  const { list, add } = findingsOf("keyprovider");
  const file = shell.env["OCICRYPT_KEYPROVIDER_CONFIG"] ?? "";
  if (file === "") add(asked ? "fail" : "not-checked", "configuration", "OCICRYPT_KEYPROVIDER_CONFIG is not set", howTo);
  else await examineProviders(file, shell, add);
  return list;
};

const howTo = "see ociseal keyprovider exec --help";

/** A file of ocicrypt's key providers: whether it reads, and whether each program or service is there. */
export async function examineProviders(file: string, shell: Shell, add: Add): Promise<void> {
  try {
    const text = await textOf(file);
    if (text === undefined) return add("fail", "configuration", `${file} is not there`, "correct OCICRYPT_KEYPROVIDER_CONFIG");
    const config = parseProviderConfig(Buffer.from(text));
    if (config.size === 0) add("warn", "configuration", `${file} names no provider`, howTo);
    else add("ok", "configuration", `${file} names ${[...config.keys()].join(", ")}`);
    for (const [name, target] of config) {
      const reason = await unreachable(target, shell);
      if (reason === undefined)
        add("ok", name, target.kind === "exec" ? `${target.path} can be run` : `${target.target} takes connections`);
      else
        add(
          "fail",
          name,
          reason,
          target.kind === "exec" ? "correct cmd.path, or install the program" : "start it, for example: ociseal keyprovider serve",
        );
    }
  } catch (error) {
    add("fail", "configuration", reasonOf(error), howTo);
  }
}

async function unreachable(target: ProviderTarget, shell: Shell): Promise<string | undefined> {
  if (target.kind === "exec")
    return (await programPath(target.path, shell.env)) === undefined ? `${target.path} cannot be found or run` : undefined;
  const path = /^unix:(?:\/\/)?(.+)$/.exec(target.target)?.[1];
  if (path !== undefined) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isSocket() !== true) return `${path} is no socket`;
    return opens({ path });
  }
  const [, host, port] = /^(?:dns:\/*)?\[?([^\]]+?)\]?:(\d+)$/.exec(target.target) ?? [];
  return host === undefined ? `${target.target} is not HOST:PORT or unix:PATH` : opens({ host, port: Number(port) });
}

function opens(where: { readonly path: string } | { readonly host: string; readonly port: number }): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ ...where, timeout: connectMs });
    const end = (reason: string | undefined): void => {
      socket.destroy();
      resolve(reason);
    };
    socket.once("connect", () => end(undefined));
    socket.once("timeout", () => end("it does not answer"));
    socket.once("error", (error) => end(error.message));
  });
}
