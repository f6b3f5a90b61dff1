import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sampleAttester } from "../../src/attestation/index.ts";
import { connectKbs } from "../../src/kbs/index.ts";
import { kubectl, missingKubernetes, startKubernetes, until, type TestKubernetes } from "../kubernetes.ts";
import { caCertificate, serverCertificate, serverKey } from "../registry/test-certificates.ts";
import { ociseal, projectFolder, startServer, type Outcome } from "./run.ts";

type Service = Awaited<ReturnType<typeof startServer>>;

describe.skipIf(missingKubernetes("kubectl"))("the service of deploy/kubernetes-secrets on a real Kubernetes", () => {
  let cluster: TestKubernetes;
  let folder: string;
  let services: Service[];
  let generation = 0;

  /** Puts a token where the pod would find it, as the kubelet does: a new generation, and then one link that names it. */
  async function projectToken(): Promise<void> {
    generation += 1;
    const volume = join(folder, "run/cluster");
    const name = `..2026_11_24_12_00_00.${generation}`;
    await mkdir(join(volume, name), { recursive: true });
    await writeFile(join(volume, name, "token"), await cluster.accountToken("ociseal", "ociseal-kbs"));
    await writeFile(join(volume, name, "ca.crt"), await readFile(cluster.authorityFile));
    await symlink(name, join(volume, "..data_tmp"));
    await rename(join(volume, "..data_tmp"), join(volume, "..data"));
  }

  /** What the pod is given, from what the cluster was given: the configuration with its paths below one folder, on loopback. */
  async function writePod(): Promise<void> {
    const [configuration = ""] = (await kubectl(["-n", "ociseal", "get", "configmaps", "-o", "name"], cluster))
      .split("\n")
      .filter((name) => name.startsWith("configmap/ociseal-kbs-"));
    const text = await kubectl(["-n", "ociseal", "get", configuration, "-o", String.raw`jsonpath={.data.kbs\.toml}`], cluster);
    const changes = {
      'mode = "production"': 'mode = "development"',
      'host = "0.0.0.0"': 'host = "127.0.0.1"',
      "port = 8443": "port = 0",
      "https://kubernetes.default.svc/": `${cluster.url}/`,
      "/etc/ociseal/": `${folder}/etc/`,
      "/var/run/ociseal/": `${folder}/run/`,
      "/var/lib/ociseal/": `${folder}/lib/`,
      "/var/cache/ociseal": `${folder}/cache`,
    };
    for (const from of Object.keys(changes)) expect(text, from).toContain(from);
    const pod = Object.entries(changes).reduce((changed, [from, to]) => changed.replaceAll(from, to), text);
    for (const name of ["etc/tls", "etc/root-key", "lib", "cache", "run"]) await mkdir(join(folder, name), { recursive: true });
    for (const name of ["one", "two"])
      await writeFile(join(folder, `${name}.toml`), pod.replace(`${folder}/lib/audit`, `${folder}/lib/${name}`));
    await writeFile(join(folder, "etc/tls/tls.crt"), serverCertificate);
    await writeFile(join(folder, "etc/tls/tls.key"), serverKey);
    await writeFile(join(folder, "etc/root-key/root.key"), randomBytes(32).toString("hex"), { mode: 0o600 });
    await projectToken();
    for (const name of ["token", "ca.crt"]) await symlink(`..data/${name}`, join(folder, "run/cluster", name));
    for (const account of ["operator", "sealer", "rewrapper", "verifier"])
      await writeFile(join(folder, account), await cluster.accountToken("ociseal", account, "ociseal-kbs"));
  }

  const serve = (name: string): Promise<Service> =>
    startServer(["kbs", "serve", "--config", `${name}.toml`], {
      cwd: folder,
      env: { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(cluster.port) },
    });
  const urlOf = (replica: number): string => services[replica]?.ready["listening"] ?? "";
  const as = (account: string, command: string, replica = 0): Promise<Outcome> =>
    ociseal(["kbs", ...command.split(" "), "--kbs", urlOf(replica), "--admin-token", account, "--tls-ca", cluster.authorityFile], {
      cwd: folder,
    });
  const ok = async (account: string, command: string, replica = 0): Promise<string> => {
    const outcome = await as(account, command, replica);
    expect(outcome, `${command}: ${outcome.stderr}`).toMatchObject({ status: 0 });
    return outcome.stdout;
  };
  async function fetchAsGuest(uri: string, replica = 0): Promise<string> {
    const guest = connectKbs({ url: urlOf(replica), attester: sampleAttester(), tls: { authorities: caCertificate } });
    try {
      return (await guest.fetchResource(uri)).toString();
    } finally {
      await guest.close();
    }
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "ociseal-kubernetes-"));
    cluster = await startKubernetes();
    const kustomization = join(projectFolder, "deploy/kubernetes-secrets");
    await kubectl(["apply", "--server-side", "--validate=strict", "-k", kustomization], cluster);
    await writePod();
    services = [await serve("one")];
    await writeFile(join(folder, "secret"), "what the guest wants");
    await writeFile(join(folder, "closed.json"), JSON.stringify({ version: 1, tee: ["tdx"] }));
    await until(async () => (await as("operator", "key list")).status === 0);
  });
  afterAll(async () => {
    for (const service of services) expect(await service.stop()).toBe(0);
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  });

  it("knows administrators by the tokens of their service accounts, and what each may", async () => {
    await ok("operator", "key create kbs:///default/image-key/app");
    await ok("sealer", "resource put kbs:///default/image-key/one secret --if-absent");
    for (const [account, command] of [
      ["sealer", "resource get kbs:///default/image-key/one"],
      ["sealer", "resource put kbs:///default/other/one secret --if-absent"],
      ["rewrapper", "resource put kbs:///default/image-key/two secret --if-absent"],
      ["verifier", "key list"],
    ] as const)
      expect(await as(account, command), `${account}: ${command}`).toMatchObject({ status: 5 });
  });

  it("keeps keys, versions and policies over a restart, and releases what policies allow", async () => {
    await ok("operator", "key rotate kbs:///default/image-key/app");
    await ok("operator", "resource put kbs:///default/closed/one secret");
    await ok("operator", "policy set closed.json --id closed --resources default/closed/*");
    const before = JSON.parse(await ok("operator", "key show kbs:///default/image-key/app --json")) as { readonly versions: unknown };
    expect(before.versions).toHaveLength(2);
    expect(await services[0]?.stop()).toBe(0);
    services = [await serve("one")];
    expect(JSON.parse(await ok("operator", "key show kbs:///default/image-key/app --json"))).toEqual(before);
    expect(await fetchAsGuest("kbs:///default/image-key/one")).toBe("what the guest wants");
    await expect(fetchAsGuest("kbs:///default/closed/one")).rejects.toMatchObject({ category: "denied" });
  });

  it("is one service with its second replica", async () => {
    services.push(await serve("two"));
    await ok("operator", "resource put kbs:///default/image-key/both secret", 1);
    expect(await fetchAsGuest("kbs:///default/image-key/both", 0)).toBe("what the guest wants");
    await expect(fetchAsGuest("kbs:///default/closed/one", 1)).rejects.toMatchObject({ category: "denied" });
  });

  it("keeps its records sealed, in a namespace of their own", async () => {
    const records = await kubectl(["-n", "ociseal-records", "get", "secrets", "-o", "json"], cluster);
    expect(JSON.parse(records)).toMatchObject({
      items: expect.arrayContaining([expect.objectContaining({ type: "ociseal.dev/kbs-record" })]),
    });
    expect(records).not.toContain(Buffer.from("what the guest wants").toString("base64").slice(0, 20));
    const sealed = [...records.matchAll(/"value": "([^"]+)"/g)].map(([, text = ""]) => Buffer.from(text, "base64").toString("latin1"));
    expect(sealed.length).toBeGreaterThan(4);
    for (const text of sealed) expect(text).not.toContain("what the guest wants");
  });

  it("is backed up while it runs, and whole when it is restored beside itself", async () => {
    const at = (config: string, ...args: string[]): Promise<Outcome> =>
      ociseal(["kbs", ...args, "--config", config], {
        cwd: folder,
        env: { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(cluster.port) },
      });
    expect(await at("one.toml", "backup", "kbs.backup")).toMatchObject({ status: 0 });
    const text = (await readFile(join(folder, "one.toml"), "utf8")).replace(`${folder}/lib/one`, `${folder}/lib/restored`);
    await writeFile(join(folder, "restored.toml"), text.replace('kind = "kubernetes"', 'kind = "kubernetes"\ninstance = "restored"'));
    expect(await at("restored.toml", "restore", "kbs.backup")).toMatchObject({ status: 0 });
    expect(await at("restored.toml", "restore", "kbs.backup")).not.toMatchObject({ status: 0 });
    services.push(await serve("restored"));
    expect(await fetchAsGuest("kbs:///default/image-key/both", 2)).toBe("what the guest wants");
    expect(await ok("operator", "key list --json", 2)).toBe(await ok("operator", "key list --json"));
  });

  it("seals every record anew under a new key", async () => {
    await ok("operator", "system rotate-encryption-key");
    expect(await fetchAsGuest("kbs:///default/image-key/both", 1)).toBe("what the guest wants");
    await ok("operator", "audit verify");
  });

  it("goes on with the token that the kubelet renewed, and after the API server was away", async () => {
    await projectToken();
    expect(await fetchAsGuest("kbs:///default/image-key/one")).toBe("what the guest wants");
    await cluster.kill();
    const ready = async (): Promise<number> => {
      const outcome = await ociseal(["doctor", "kbs", "--kbs", urlOf(0), "--tls-ca", cluster.authorityFile], { cwd: folder });
      return outcome.status;
    };
    expect(await ready()).not.toBe(0);
    await cluster.start();
    await until(async () => (await ready()) === 0);
    expect(await fetchAsGuest("kbs:///default/image-key/one")).toBe("what the guest wants");
  });
});
