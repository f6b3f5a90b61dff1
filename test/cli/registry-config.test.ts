import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { certsDirsOf, credentialFiles, loginFile, registriesConfOf } from "../../cli/registry-config.ts";
import { credentialsFromFiles } from "../../src/registry/index.ts";

const paths = (env: Readonly<Record<string, string>>, named?: string) => credentialFiles(env, named, 1000).map(({ path }) => path);
const full = { HOME: "/home/u", XDG_RUNTIME_DIR: "/run/user/1000", XDG_CONFIG_HOME: "/home/u/conf", DOCKER_CONFIG: "/home/u/dc" };

describe("credentials", () => {
  it("are looked for where podman and docker keep them, in their order", () => {
    expect(paths(full)).toEqual(["/run/user/1000/containers/auth.json", "/home/u/conf/containers/auth.json", "/home/u/dc/config.json"]);
    expect(paths({ HOME: "/home/u" })).toEqual([
      "/run/containers/1000/auth.json",
      "/home/u/.config/containers/auth.json",
      "/home/u/.docker/config.json",
      "/home/u/.dockercfg",
    ]);
  });

  it("of a named file are the only ones, the flag before the environment", () => {
    const env = { ...full, REGISTRY_AUTH_FILE: "/env.json", DOCKER_AUTH_CONFIG: "{}" };
    expect(credentialFiles(env, "/flag.json", 1000)).toEqual([{ path: "/flag.json", presence: "required" }]);
    expect(credentialFiles(env, undefined, 1000)).toEqual([{ path: "/env.json", presence: "required" }]);
    expect(paths({ ...full, REGISTRY_AUTH_FILE: "" })).toEqual(paths(full));
  });

  it("in DOCKER_AUTH_CONFIG, as CI systems set it, come before the usual files", async () => {
    const content = JSON.stringify({ auths: { "r.example": { auth: Buffer.from("ci:secret").toString("base64") } } });
    const env = { HOME: "/nonexistent", DOCKER_AUTH_CONFIG: content };
    expect(paths(env)[0]).toBe("DOCKER_AUTH_CONFIG");
    expect(await credentialsFromFiles(credentialFiles(env, undefined, 1000))("r.example", "app")).toEqual({
      kind: "basic",
      username: "ci",
      password: "secret",
    });
    const broken = credentialsFromFiles(credentialFiles({ ...env, DOCKER_AUTH_CONFIG: '{"auths":{"r.example":{"auth":"c2Vj' }, undefined));
    const error: unknown = await broken("r.example", "app").catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "ERR_CREDENTIALS_MALFORMED" });
    expect(String(error)).toContain("DOCKER_AUTH_CONFIG");
    expect(JSON.stringify([String(error), error])).not.toContain("c2Vj");
  });

  it("are written to the named file, docker's named folder, podman's place, or docker's", () => {
    expect(loginFile(full, "/flag.json")).toBe("/flag.json");
    expect(loginFile({ ...full, REGISTRY_AUTH_FILE: "/env.json" }, undefined)).toBe("/env.json");
    expect(loginFile(full, undefined)).toBe("/home/u/dc/config.json");
    expect(loginFile({ HOME: "/home/u", XDG_RUNTIME_DIR: "/run/user/1000" }, undefined)).toBe("/run/user/1000/containers/auth.json");
    expect(loginFile({ HOME: "/home/u" }, undefined)).toBe("/home/u/.docker/config.json");
    expect(loginFile({}, undefined)).toBeUndefined();
  });
});

describe("a variable that names no absolute folder", () => {
  const here = { HOME: "", XDG_RUNTIME_DIR: "", XDG_CONFIG_HOME: "conf" };

  it("brings nothing of the current folder", async () => {
    expect(paths(here)).toEqual(["/run/containers/1000/auth.json"]);
    expect(loginFile(here, undefined)).toBeUndefined();
    expect(certsDirsOf(here)).toEqual(["/etc/containers/certs.d", "/etc/docker/certs.d"]);
    expect(await registriesConfOf(here)).toEqual(await registriesConfOf({}));
  });
});

describe("registries.conf", () => {
  let home: string;
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "ociseal-config-"));
    const folder = join(home, ".config/containers");
    await mkdir(join(folder, "registries.conf.d"), { recursive: true });
    await writeFile(join(folder, "registries.conf"), '[[registry]]\nprefix = "r.example"\nblocked = true\n');
    await writeFile(join(folder, "registries.conf.d/20-b.conf"), '[[registry]]\nprefix = "s.example"\nlocation = "b.example"\n');
    await writeFile(join(folder, "registries.conf.d/10-a.conf"), '[[registry]]\nprefix = "s.example"\nlocation = "a.example"\n');
    await writeFile(join(folder, "registries.conf.d/README"), "not read");
  });
  afterAll(async () => {
    await rm(home, { recursive: true, force: true });
  });

  it("of the user is read with its drop-ins, in the order of their names", async () => {
    const { rules } = await registriesConfOf({ HOME: home });
    expect(rules.find(({ prefix }) => prefix === "r.example")).toMatchObject({ blocked: true });
    expect(rules.find(({ prefix }) => prefix === "s.example")).toMatchObject({ location: "b.example" });
  });
});
