import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { pageBlocks } from "../docs/command-lines.ts";
import { kubectl, runWithKubectl, missingKubectl, missingKubernetes, startKubernetes, until, type TestKubernetes } from "../kubernetes.ts";
import { complaints, validate, type KubernetesObject } from "./kubernetes-schema.ts";

const deploy = resolve(import.meta.dirname, "../../deploy");
const base = join(deploy, "kubernetes");
const secrets = join(deploy, "kubernetes-secrets");

interface Manifest extends KubernetesObject {
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly data?: Readonly<Record<string, string>>;
  readonly resources?: readonly string[];
}

const parse = (text: string): readonly Manifest[] => parseAllDocuments(text).map((document) => document.toJS() as Manifest);
const read = (path: string): readonly Manifest[] => parse(readFileSync(path, "utf8"));
const nameOf = ({ kind, metadata }: Manifest): string => `${kind}/${metadata.name}`;

describe.skipIf(missingKubectl())("what kustomize makes", () => {
  it("of deploy/kubernetes are the objects that its files show, in one namespace, with the image's name and the configuration", async () => {
    const [kustomization] = read(join(base, "kustomization.yaml"));
    const shown = (kustomization?.resources ?? []).flatMap((name) => read(join(base, name)));
    const made = parse(await kubectl(["kustomize", base]));
    const [configuration, ...more] = made.filter(({ kind }) => kind === "ConfigMap");
    expect(more).toEqual([]);
    expect(configuration?.data).toEqual({ "kbs.toml": readFileSync(join(base, "kbs.toml"), "utf8") });
    const others = made.filter((object) => object !== configuration);
    expect(others.map(nameOf).sort()).toEqual(shown.map(nameOf).sort());
    for (const object of shown) {
      const other = others.find((one) => nameOf(one) === nameOf(object));
      // What kustomize writes into an object: its namespace, the name of the configuration with its digest, the image.
      const expected = JSON.stringify(object)
        .replaceAll('"configMap":{"name":"ociseal-kbs"}', `"configMap":{"name":"${configuration?.metadata.name}"}`)
        .replaceAll('"image":"ociseal"', '"image":"registry.example.com/ociseal:0.1.0"');
      const { namespace, ...metadata } = other?.metadata ?? { name: "" };
      expect({ ...other, metadata }).toEqual(JSON.parse(expected));
      const isClusterWide = ["Namespace", "ClusterRoleBinding"].includes(object.kind);
      expect(namespace, nameOf(object)).toBe(isClusterWide ? undefined : "ociseal");
    }
  });

  it("of deploy/kubernetes-secrets is the same service without PostgreSQL, with a token and its records elsewhere", async () => {
    const text = await kubectl(["kustomize", secrets]);
    expect(text).not.toMatch(/postgres/i);
    const made = parse(text);
    for (const object of made) await expect(validate(object), nameOf(object)).resolves.toBeUndefined();
    expect(complaints(made)).toEqual([]);
    const before = parse(await kubectl(["kustomize", base])).map(nameOf);
    const plain = (names: readonly string[]): readonly string[] => names.map((name) => name.replace(/^(ConfigMap\/ociseal-kbs)-.*/, "$1"));
    const added = ["Namespace/ociseal-records", "Role/ociseal-kbs-records", "RoleBinding/ociseal-kbs-records"];
    expect(plain(made.map(nameOf)).toSorted()).toEqual(
      [...plain(before).filter((name) => !name.endsWith("/postgresql")), ...added].toSorted(),
    );
    expect(text).toContain('token_file = "/var/run/ociseal/cluster/token"');
    expect(made.find(({ kind }) => kind === "Deployment")).toMatchObject({
      spec: {
        template: {
          spec: {
            volumes: expect.arrayContaining([
              {
                name: "cluster",
                projected: {
                  defaultMode: 0o440,
                  sources: [
                    { configMap: { name: "kube-root-ca.crt" } },
                    { serviceAccountToken: { path: "token", expirationSeconds: 3600 } },
                  ],
                },
              },
            ]),
          },
        },
      },
    });
  });
});

interface Pod {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>>; readonly name: string };
  readonly spec: { readonly serviceAccountName: string; readonly containers: readonly { readonly env?: readonly unknown[] }[] };
}

const shardOf = ({ metadata }: Pod): number => Number(metadata.annotations?.["batch.kubernetes.io/job-completion-index"]);

describe.skipIf(missingKubernetes("kubectl", "kube-controller-manager"))("a real Kubernetes without nodes", () => {
  let cluster: TestKubernetes;

  const apply = (...args: readonly string[]): Promise<string> =>
    kubectl(["apply", "--server-side", "--force-conflicts", "--validate=strict", "--warnings-as-errors", ...args], cluster);
  const podsOf = async (selector: string): Promise<readonly Pod[]> => {
    const { value } = await cluster.call("GET", `/api/v1/namespaces/ociseal/pods?labelSelector=${encodeURIComponent(selector)}`);
    return value["items"] as readonly Pod[];
  };

  beforeAll(async () => {
    cluster = await startKubernetes();
    await cluster.startControllers();
    // Kata brings it; a pod that names one that is not there is refused.
    const runtime = { metadata: { name: "kata-qemu-tdx" }, handler: "kata-qemu-tdx" };
    await cluster.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", runtime);
    await until(async () => (await cluster.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")).status === 200);
  });
  afterAll(() => cluster.stop());

  it("takes the service with PostgreSQL, as the how-to says, and makes its pods", async () => {
    const page = readFileSync(join(deploy, "../docs/how-to/run-the-kbs.md"), "utf8");
    const script = pageBlocks(page).find(({ text }) => text.includes("kubectl apply -k deploy/kubernetes\n"))?.text ?? "";
    const folder = mkdtempSync(join(tmpdir(), "kubernetes-how-to-"));
    symlinkSync(deploy, join(folder, "deploy"));
    await runWithKubectl(`set -eu\n${script}`, folder, cluster);
    expect(readFileSync(join(folder, "admin.token"), "utf8")).toMatch(/^ey[\w-]+\.[\w-]+\.[\w-]+\s*$/);
    for (const [name, key] of Object.entries({ "ociseal-kbs-root-key": "root.key", "postgresql-password": "password" }))
      expect((await cluster.call("GET", `/api/v1/namespaces/ociseal/secrets/${name}`)).value).toMatchObject({
        data: { [key]: expect.any(String) },
      });
    rmSync(folder, { recursive: true });
    await apply("-k", base);
    await until(async () => (await podsOf("app.kubernetes.io/name=ociseal-kbs")).length === 2);
    await until(async () => (await podsOf("app.kubernetes.io/name=postgresql")).length === 1);
    const disruptions = await cluster.call("GET", "/apis/policy/v1/namespaces/ociseal/poddisruptionbudgets/ociseal-kbs");
    expect(disruptions.value).toMatchObject({ spec: { minAvailable: 1 } });
    const { value } = await cluster.call("GET", "/apis/networking.k8s.io/v1/namespaces/ociseal/networkpolicies");
    const policies = value["items"] as readonly Manifest[];
    expect(policies.map(({ metadata }) => metadata.name)).toEqual(["default-deny", "ociseal-kbs", "ociseal-seal", "postgresql"]);
    // A second time nothing changes.
    expect(await kubectl(["diff", "--server-side", "-k", base], cluster)).toBe("");
  });

  it("takes the service with its records in Secrets", async () => {
    await apply("-k", secrets);
    await until(async () => {
      const pods = await podsOf("app.kubernetes.io/name=ociseal-kbs");
      return pods.some((pod) => JSON.stringify(pod.spec).includes('"serviceAccountToken"'));
    });
  });

  it.each(["confidential-pod", "init-container-pod"])("takes %s", async (name) => {
    expect(await apply("-f", join(base, "examples", `${name}.yaml`))).toContain("serverside-applied");
  });

  it.each([
    ["seal", "sealer"],
    ["rewrap", "rewrapper"],
    ["verify", "verifier"],
  ])("runs the Job that can %s in eight shards", async (name, account) => {
    await apply("-f", join(base, "examples", `${name}-job.yaml`));
    const selector = `batch.kubernetes.io/job-name=ociseal-${name}`;
    await until(async () => (await podsOf(selector)).length === 8);
    const pods = await podsOf(selector);
    expect(pods.map(shardOf).toSorted((left, right) => left - right)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const { spec } of pods) {
      expect(spec.serviceAccountName).toBe(account);
      const fieldPath = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
      expect(spec.containers[0]?.env).toEqual(
        expect.arrayContaining([
          { name: "SHARD", valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } } },
          expect.objectContaining({ name: "JOB_COMPLETION_INDEX" }),
        ]),
      );
    }
  });

  it("runs a shard that failed again, and no other", async () => {
    const selector = "batch.kubernetes.io/job-name=ociseal-verify";
    const failed = (await podsOf(selector)).find((pod) => shardOf(pod) === 3)?.metadata.name ?? "";
    const patch = ["--subresource=status", "--type=merge", "-p", JSON.stringify({ status: { phase: "Failed" } })];
    await kubectl(["-n", "ociseal", "patch", "pod", failed, ...patch], cluster);
    await until(async () => (await podsOf(selector)).length === 9);
    expect((await podsOf(selector)).filter((pod) => shardOf(pod) === 3)).toHaveLength(2);
  });
});
