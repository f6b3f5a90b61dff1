import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { makeHelloImage, seedRegistry } from "../../registry-fixtures/index.ts";
import { serveRegistry, type RegistryServer } from "../../src/registry-server/index.ts";
import { ociseal, startServer, type Outcome } from "../cli/run.ts";
import { caCertificate, serverCertificate, serverKey } from "../registry/test-certificates.ts";

const deploy = resolve(import.meta.dirname, "../../deploy/kubernetes");
const names = ["a", "b", "c"] as const;
/** As many pods as have a line to work on, and one that has none. */
const shards = ["0", "1", "2", "3"] as const;

interface Job {
  readonly kind: string;
  readonly spec: { readonly template: { readonly spec: { readonly containers: readonly { readonly args: readonly string[] }[] } } };
}

// The service with its configuration of deploy/, the Jobs with their arguments and with tokens as the cluster would give them.
describe("the Jobs of deploy/kubernetes", () => {
  let folder: string;
  let registry: RegistryServer;
  let kbs: Awaited<ReturnType<typeof startServer>>;
  let host: string;
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

  /** As the kubelet puts it into each pod: no two are the same. */
  async function projectToken(account: string): Promise<void> {
    const token = new SignJWT({ jti: randomUUID() })
      .setProtectedHeader({ alg: "ES256" })
      .setSubject(`system:serviceaccount:ociseal:${account}`)
      .setIssuer("https://kubernetes.default.svc.cluster.local")
      .setAudience("ociseal-kbs")
      .setIssuedAt()
      .setExpirationTime("1h");
    writeFileSync(join(folder, "token", account), await token.sign(privateKey));
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "jobs-"));
    for (const name of ["list", "token", "authority", "signing", "registry", "etc"]) mkdirSync(join(folder, name));
    const put = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
    put("authority/ca.crt", caCertificate);
    put("etc/tls.crt", serverCertificate);
    put("etc/tls.key", serverKey);
    put("etc/root.key", randomBytes(32).toString("hex"));
    put("registry/.dockerconfigjson", JSON.stringify({ auths: {} }));
    put("etc/cluster.pem", publicKey.export({ format: "pem", type: "spki" }).toString());
    put("kbs.toml", configuration());
    await projectToken("operator");
    kbs = await startServer(["kbs", "serve", "--config", "kbs.toml"], { cwd: folder });
    registry = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
    host = registry.url.replace("http://", "");
    for (const name of names) await seedRegistry(registry, `plain/${name}`, await makeHelloImage(`${name}\n`, "amd64"), "1");
    const env = { COSIGN_PASSWORD: "change-me" };
    expect(await ociseal(["key", "generate", "cosign", "--out", "signing/cosign"], { cwd: folder, env })).toMatchObject({ status: 0 });
  });
  afterAll(async () => {
    await kbs.stop();
    await registry.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** kbs.toml with what the cluster gives replaced: the database, the folders, and the keys of its tokens. */
  function configuration(): string {
    const changes: readonly (readonly [string | RegExp, string])[] = [
      ['host = "0.0.0.0"\nport = 8443', 'host = "127.0.0.1"\nport = 0'],
      [/\[store\]\nkind = "postgresql"\n(?:.+\n)+/, '[store]\nkind = "memory"\n'],
      [/keys = \{ kind = "jwks-url".*\nauthorities = .*\n/, `keys = { kind = "pem", files = ["${folder}/etc/cluster.pem"] }\n`],
      [/\/etc\/ociseal\/(?:tls|root-key)\//g, `${folder}/etc/`],
      ["/var/lib/ociseal/audit", `${folder}/audit`],
      ["/var/cache/ociseal", `${folder}/cache`],
    ];
    return changes.reduce(
      (text, [from, to]) => {
        const changed = text.replace(from, to);
        expect(changed, String(from)).not.toBe(text);
        return changed;
      },
      readFileSync(join(deploy, "kbs.toml"), "utf8"),
    );
  }

  /** Runs what the pods of a Job run, with the token of its account, and returns what they answered. */
  async function runJob(name: string, account: string, lines: readonly string[]): Promise<readonly Outcome[]> {
    writeFileSync(join(folder, "list/images.txt"), `${lines.join("\n")}\n`);
    const job = parseAllDocuments(readFileSync(join(deploy, `examples/${name}-job.yaml`), "utf8"))
      .map((document) => document.toJS() as Job)
      .find(({ kind }) => kind === "Job");
    const [container] = job?.spec.template.spec.containers ?? [];
    const outcomes: Outcome[] = [];
    mkdirSync(join(folder, `state-${name}`), { recursive: true });
    for (const shard of shards) {
      await projectToken(account);
      const args = (container?.args ?? []).map((argument) =>
        argument
          .replaceAll("$(SHARD)", shard)
          .replace("https://ociseal-kbs.ociseal.svc:8443", kbs.ready["listening"] ?? "")
          .replace(/^\/token\/kbs$/, `${folder}/token/${account}`)
          .replace("/state/", `${folder}/state-${name}/`)
          .replace(/^\/(list|authority|signing)\//, `${folder}/$1/`),
      );
      const env = { COSIGN_PASSWORD: "change-me", REGISTRY_AUTH_FILE: `${folder}/registry/.dockerconfigjson` };
      outcomes.push(await ociseal(args, { cwd: folder, env }));
    }
    return outcomes;
  }
  const statuses = (outcomes: readonly Outcome[]): readonly string[] =>
    outcomes.map(({ status, stderr }) => `${status} ${status === 0 ? "" : stderr}`.trim());
  const allWell = shards.map(() => "0");
  const operator = async (...args: readonly string[]): Promise<string> => {
    const flags = ["--kbs", kbs.ready["listening"] ?? "", "--admin-token", "token/operator", "--tls-ca", "authority/ca.crt"];
    const outcome = await ociseal(["kbs", ...args, ...flags], { cwd: folder });
    expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
    return outcome.stdout;
  };
  const digestOf = async (name: string): Promise<string | null> =>
    (await fetch(`${registry.url}/v2/sealed/${name}/manifests/1`, { method: "HEAD" })).headers.get("docker-content-digest");
  const sealed = () => names.map((name) => `${host}/sealed/${name}:1`);

  it("seal every image of a list with the rights of their accounts, once, and verify them", async () => {
    const lines = names.map((name) => `${host}/plain/${name}:1 ${host}/sealed/${name}:1`);
    expect(statuses(await runJob("seal", "sealer", lines))).toEqual(allWell);
    const first = await Promise.all(names.map(digestOf));
    expect(new Set(first).size).toBe(names.length);
    expect(statuses(await runJob("seal", "sealer", lines))).toEqual(allWell);
    expect(await Promise.all(names.map(digestOf))).toEqual(first);
    expect(statuses(await runJob("verify", "verifier", sealed()))).toEqual(allWell);
  });

  it("wrap anew what they sealed when its keys were rotated, and sign it again", async () => {
    const before = await Promise.all(names.map(digestOf));
    const { keys } = JSON.parse(await operator("key", "list", "--json")) as { readonly keys: readonly { readonly uri: string }[] };
    expect(keys.length).toBeGreaterThanOrEqual(names.length);
    for (const { uri } of keys) await operator("key", "rotate", uri);
    expect(statuses(await runJob("rewrap", "rewrapper", sealed()))).toEqual(allWell);
    const after = await Promise.all(names.map(digestOf));
    for (const [i, digest] of after.entries()) expect(digest).not.toBe(before[i]);
    expect(statuses(await runJob("verify", "verifier", sealed()))).toEqual(allWell);
  });

  it("may do nothing of each other's", async () => {
    const lines = names.map((name) => `${host}/plain/${name}:1 ${host}/other/${name}:1`);
    rmSync(join(folder, "state-seal"), { recursive: true });
    const outcomes = await runJob("seal", "rewrapper", lines);
    expect(outcomes.map(({ status }) => status)).toEqual([5, 5, 5, 0]);
  });
});
