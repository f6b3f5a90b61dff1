import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  credentialsFromFiles,
  parseRegistriesConf,
  type CredentialFile,
  type CredentialSource,
  type RegistriesConf,
} from "../src/registry/index.ts";
import type { Shell } from "./shell.ts";

type Environment = Shell["env"];

/** Folders of configuration, the user's before the machine's. Source: containers-registries.conf(5), containers-auth.json(5). */
function userFolder(env: Environment): string | undefined {
  const home = env["HOME"];
  return env["XDG_CONFIG_HOME"] ?? (home === undefined ? undefined : join(home, ".config"));
}

/**
 * Where credentials are looked for: the file that was named, else `REGISTRY_AUTH_FILE`, else podman's and docker's usual
 * places. A named file is the only one looked at, as podman does.
 */
export function credentialFiles(env: Environment, named: string | undefined): readonly CredentialFile[] {
  const only = named ?? env["REGISTRY_AUTH_FILE"];
  if (only !== undefined && only !== "") return [{ path: only, presence: "required" }];
  const [runtime, config, home] = [env["XDG_RUNTIME_DIR"], userFolder(env), env["HOME"]];
  return [
    ...(runtime === undefined ? [] : [{ path: join(runtime, "containers/auth.json") }]),
    ...(config === undefined ? [] : [{ path: join(config, "containers/auth.json") }]),
    ...dockerFiles(env["DOCKER_CONFIG"], home),
  ];
}

function dockerFiles(folder: string | undefined, home: string | undefined): readonly CredentialFile[] {
  if (folder !== undefined && folder !== "") return [{ path: join(folder, "config.json") }];
  return home === undefined ? [] : [{ path: join(home, ".docker/config.json") }, { path: join(home, ".dockercfg"), style: "dockercfg" }];
}

/** Where `login` writes unless told: podman's own place, which docker's users also have when they named it. */
export function loginFile(env: Environment, named: string | undefined): string | undefined {
  const only = named ?? env["REGISTRY_AUTH_FILE"];
  if (only !== undefined && only !== "") return only;
  const folder = env["DOCKER_CONFIG"];
  if (folder !== undefined && folder !== "") return join(folder, "config.json");
  const [runtime, home] = [env["XDG_RUNTIME_DIR"], env["HOME"]];
  if (runtime !== undefined) return join(runtime, "containers/auth.json");
  return home === undefined ? undefined : join(home, ".docker/config.json");
}

export function credentialsOf(env: Environment, named: string | undefined): CredentialSource {
  return credentialsFromFiles(credentialFiles(env, named));
}

/** registries.conf with its drop-ins: the user's when there is one, else the machine's. */
export async function registriesConfOf(env: Environment): Promise<RegistriesConf> {
  const files: { readonly path: string; readonly text: string }[] = [];
  const folders = [userFolder(env), "/etc"].filter((folder) => folder !== undefined).map((folder) => join(folder, "containers"));
  for (const folder of folders) {
    const main = await textOf(join(folder, "registries.conf"));
    if (main !== undefined && files.length === 0) files.push(main);
  }
  for (const folder of folders.toReversed()) files.push(...(await dropIns(join(folder, "registries.conf.d"))));
  return parseRegistriesConf(files);
}

/** Folders like `/etc/containers/certs.d`, nearest first. */
export function certsDirsOf(env: Environment): readonly string[] {
  const config = userFolder(env);
  return [...(config === undefined ? [] : [join(config, "containers/certs.d")]), "/etc/containers/certs.d", "/etc/docker/certs.d"];
}

async function dropIns(folder: string): Promise<readonly { readonly path: string; readonly text: string }[]> {
  const names = await absentAs([], () => readdir(folder));
  const found = await Promise.all(
    names
      .filter((name) => name.endsWith(".conf"))
      .toSorted()
      .map((name) => textOf(join(folder, name))),
  );
  return found.filter((file) => file !== undefined);
}

async function textOf(path: string): Promise<{ readonly path: string; readonly text: string } | undefined> {
  return absentAs(undefined, async () => ({ path, text: await readFile(path, "utf8") }));
}

async function absentAs<Value>(absent: Value, read: () => Promise<Value>): Promise<Value> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return absent;
    throw error;
  }
}
