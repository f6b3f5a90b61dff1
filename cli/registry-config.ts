import { readdir, readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { parseRegistriesConf, type CredentialFile, type RegistriesConf } from "../src/registry/index.ts";
import type { Shell } from "./shell.ts";

type Environment = Shell["env"];

/** Folders of configuration, the user's before the machine's. Source: containers-registries.conf(5), containers-auth.json(5). */
function userFolder(env: Environment): string | undefined {
  const home = folderOf(env, "HOME");
  return folderOf(env, "XDG_CONFIG_HOME") ?? (home === undefined ? undefined : join(home, ".config"));
}

/**
 * A folder that the environment names. Empty or relative counts as not named: a checkout that a job happens to stand in
 * must not bring credentials, mirrors or authorities of its own. Source: XDG Base Directory Specification.
 */
function folderOf(env: Environment, name: string): string | undefined {
  const folder = env[name];
  return folder !== undefined && isAbsolute(folder) ? folder : undefined;
}

/**
 * Where credentials are looked for: the file that was named, else `REGISTRY_AUTH_FILE`, else `DOCKER_AUTH_CONFIG` (the
 * content of a config.json, as CI systems set it) and podman's and docker's usual places. A named file is the only one
 * looked at, as podman does.
 *
 * @param userId - whose podman files are meant where no `XDG_RUNTIME_DIR` is: a service, cron, sudo.
 */
export function credentialFiles(
  env: Environment,
  named: string | undefined,
  userId: number | undefined = process.getuid?.(),
): readonly CredentialFile[] {
  const only = named ?? env["REGISTRY_AUTH_FILE"];
  if (only !== undefined && only !== "") return [{ path: only, presence: "required" }];
  const content = env["DOCKER_AUTH_CONFIG"] ?? "";
  const config = userFolder(env);
  return [
    ...(content === "" ? [] : [{ path: "DOCKER_AUTH_CONFIG", content }]),
    ...podmanFile(folderOf(env, "XDG_RUNTIME_DIR"), userId),
    ...(config === undefined ? [] : [{ path: join(config, "containers/auth.json") }]),
    ...dockerFiles(env["DOCKER_CONFIG"], folderOf(env, "HOME")),
  ];
}

function podmanFile(runtime: string | undefined, userId: number | undefined): readonly CredentialFile[] {
  if (runtime !== undefined) return [{ path: join(runtime, "containers/auth.json") }];
  return userId === undefined ? [] : [{ path: `/run/containers/${userId}/auth.json` }];
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
  const [runtime, home] = [folderOf(env, "XDG_RUNTIME_DIR"), folderOf(env, "HOME")];
  if (runtime !== undefined) return join(runtime, "containers/auth.json");
  return home === undefined ? undefined : join(home, ".docker/config.json");
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
