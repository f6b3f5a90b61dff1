import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hash } from "bcryptjs";
import { expect } from "vitest";
import { makeHelloImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, startServer } from "../cli/run.ts";
import { startDockerRegistry } from "../registry/docker-registry.ts";
import { startIdentityProvider, type IdentityProvider } from "./identity-provider.ts";

/** What a pipeline finds: a registry with a password, a Key Broker Service that trusts the pipeline's identity, and an image. */
export interface PipelineBench {
  readonly folder: string;
  /** HOME of the job; it is logged in at the registry, as a login step leaves it. */
  readonly home: string;
  readonly registry: string;
  readonly kbs: string;
  readonly provider: IdentityProvider;
  /** Runs a command as a person who may do all. */
  readonly run: (...args: readonly string[]) => ReturnType<typeof ociseal>;
  close(): Promise<void>;
}

/** @param claims - of the job's identity tokens; the service gives the role of docs/how-to/seal-in-ci.md to `ref = main`. */
export async function startPipelineBench(claims: Readonly<Record<string, string>>): Promise<PipelineBench> {
  const folder = await mkdtemp(join(tmpdir(), "ociseal-ci-"));
  await writeFile(join(folder, "htpasswd"), `robot:${await hash("s3cret", 4)}\n`);
  const registry = await startDockerRegistry(`auth: {htpasswd: {realm: test, path: ${join(folder, "htpasswd")}}}\n`);
  const home = join(folder, "home");
  await mkdir(join(home, ".docker"), { recursive: true });
  const auths = { [registry.host]: { auth: Buffer.from("robot:s3cret").toString("base64") } };
  await writeFile(join(home, ".docker/config.json"), JSON.stringify({ auths }));
  const provider = await startIdentityProvider(claims);
  await writeFile(join(folder, "kbs.toml"), kbsConfig(folder, provider.issuer));
  const kbs = await startServer(["kbs", "serve", "--config", "kbs.toml"], { cwd: folder });
  const run = (...args: readonly string[]) => ociseal(args, { cwd: folder, env: { HOME: home } });
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, await makeHelloImage("hello from the pipeline\n", "amd64"), "app");
  await layout.close();
  const pushed = await run("copy", "oci:image:app", `${registry.host}/example/shop:1`);
  expect(pushed, pushed.stderr).toMatchObject({ status: 0 });
  return {
    folder,
    home,
    registry: registry.host,
    kbs: kbs.ready["listening"] ?? "",
    provider,
    run,
    close: async () => {
      await kbs.stop();
      await provider.close();
      await registry.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The grant of the how-to; development mode, so that a guest without a TEE can be played. */
function kbsConfig(folder: string, issuer: string): string {
  return `
mode = "development"
listen = { host = "127.0.0.1", port = 0 }
store = { kind = "directory", path = "${join(folder, "kbs")}" }
[[root_keys]]
kind = "file"
path = "${join(folder, "root.key")}"
if_missing = "create"
[[issuers]]
name = "ci"
issuer = "${issuer}"
audience = "ociseal-kbs"
keys = { kind = "discovery" }
[[issuers.rules]]
claims = { ref = "refs/heads/main" }
roles = ["sealer"]
[roles.sealer]
grants = [{ actions = ["resource:create", "resource:confirm"], paths = ["default/shop-key/**"] }]
`;
}

/** The digest that a tag in the registry points to. */
export async function digestOf(bench: PipelineBench, tag: string): Promise<string> {
  const inspected = await bench.run("inspect", "--json", `${bench.registry}/example/shop:${tag}`);
  expect(inspected, inspected.stderr).toMatchObject({ status: 0 });
  return (JSON.parse(inspected.stdout) as { readonly root: { readonly digest: string } }).root.digest;
}

/** Pulls what was sealed as a guest does, and returns the program that the image holds, as text. */
export async function pulledFile(bench: PipelineBench, tag: string, target: string, ...flags: readonly string[]): Promise<string> {
  const image = `${bench.registry}/example/shop:${tag}`;
  const pulled = await bench.run("pull", image, target, "--kbs", bench.kbs, "--tee", "sample", "--platform", "linux/amd64", ...flags);
  expect(pulled, pulled.stderr).toMatchObject({ status: 0 });
  return readFile(join(bench.folder, target, "hello"), "latin1");
}
