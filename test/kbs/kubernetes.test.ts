import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { openKubernetesStore, type SecretStore } from "../../src/kbs/index.ts";
import { missingKubernetes, startKubernetes, until, type TestKubernetes } from "../kubernetes.ts";
import { caCertificate } from "../registry/test-certificates.ts";

const deploy = resolve(import.meta.dirname, "../../deploy");
const bytes = (text: string) => Buffer.from(text);

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

const places: Readonly<Record<string, string>> = {
  Namespace: "/api/v1/namespaces",
  ServiceAccount: "/api/v1/namespaces/NAMESPACE/serviceaccounts",
  Role: "/apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/roles",
  RoleBinding: "/apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/rolebindings",
};

// The same acts are tried on an imitation in stores.test.ts and remote-stores.test.ts; what only a real one can show is here.
describe.skipIf(missingKubernetes())("a store in the Secrets of a real Kubernetes, with the rights of deploy/", () => {
  let cluster: TestKubernetes;
  let folder: string;
  let tokenFile: string;
  let store: SecretStore;
  const role = `${places["Role"]?.replace("NAMESPACE", "ociseal-records")}/ociseal-kbs-records`;

  const open = (namespace = "ociseal-records", file = tokenFile): SecretStore =>
    openKubernetesStore({ url: cluster.url, namespace, tokenFile: file, authorities: caCertificate });

  /** Makes the objects of a manifest of deploy/ that have a place here. */
  async function create(name: string): Promise<void> {
    for (const document of parseAllDocuments(await readFile(join(deploy, name), "utf8"))) {
      const object = document.toJS() as Manifest;
      const path = places[object.kind]?.replace("NAMESPACE", object.metadata.namespace ?? "ociseal");
      if (path !== undefined) expect(await cluster.call("POST", path, object), JSON.stringify(object)).toMatchObject({ status: 201 });
    }
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-kubernetes-"));
    cluster = await startKubernetes();
    for (const name of ["kubernetes/namespace.yaml", "kubernetes/service-accounts.yaml", "kubernetes-secrets/records.yaml"])
      await create(name);
    tokenFile = join(folder, "token");
    await writeFile(tokenFile, await cluster.accountToken("ociseal", "ociseal-kbs"));
    store = open();
    // Rights take effect a moment after they were given.
    await until(() => store.probe().then(...settled));
  });
  afterAll(async () => {
    await store.close();
    await cluster.stop();
    await rm(folder, { recursive: true });
  });

  const settled = [() => true, () => false] as const;

  it("needs each of the rights that it has, and says which when one is missing", async () => {
    const { value } = await cluster.call("GET", role);
    const [rule] = value["rules"] as readonly { readonly verbs: readonly string[] }[];
    const acts: Readonly<Record<string, () => Promise<unknown>>> = {
      get: () => store.read("rights/a"),
      list: () => store.list({ prefix: "rights", limit: 1 }),
      create: () => store.write("rights/b", bytes("1"), { kind: "absent" }),
      update: async () =>
        store.write("rights/a", bytes("2"), { kind: "revision", revision: (await store.read("rights/a"))?.revision ?? "" }),
      delete: () => store.remove("rights/b", { kind: "any" }),
    };
    expect([...(rule?.verbs ?? [])].sort()).toEqual(Object.keys(acts).sort());
    await store.write("rights/a", bytes("1"), { kind: "absent" });
    for (const [verb, act] of Object.entries(acts)) {
      const others = rule?.verbs.filter((one) => one !== verb) ?? [];
      await cluster.call("PUT", role, { ...value, metadata: { name: "ociseal-kbs-records" }, rules: [{ ...rule, verbs: others }] });
      let refusal: unknown;
      await until(() =>
        act().then(
          () => false,
          (error: unknown) => {
            refusal = error;
            return true;
          },
        ),
      );
      expect(refusal, verb).toMatchObject({
        code: "ERR_KBS_STORE_FAILED",
        details: { status: 403 },
        hint: expect.stringContaining(verb),
      });
      await cluster.call("PUT", role, { ...value, metadata: { name: "ociseal-kbs-records" } });
      await until(() => act().then(...settled));
    }
  });

  it("has no right in the namespace of the service, where the root key is", async () => {
    const elsewhere = open("ociseal");
    await expect(elsewhere.read("a")).rejects.toMatchObject({ details: { status: 403 } });
    await expect(elsewhere.list({ prefix: "", limit: 1 })).rejects.toMatchObject({ details: { status: 403 } });
    await elsewhere.close();
  });

  it("loses no change of two services that change one record at once", async () => {
    const other = open();
    await store.write("race", bytes("0"), { kind: "any" });
    const count = async (one: SecretStore): Promise<number> => {
      let conflicts = 0;
      for (let done = 0; done < 15;) {
        const record = await one.read("race");
        const next = bytes(String(Number(record?.bytes.toString()) + 1));
        const outcome = await one.write("race", next, { kind: "revision", revision: record?.revision ?? "" });
        if (outcome === "conflict") conflicts += 1;
        else done += 1;
      }
      return conflicts;
    };
    const [left, right] = await Promise.all([count(store), count(other)]);
    expect((await store.read("race"))?.bytes.toString()).toBe("30");
    expect(left + right).toBeGreaterThan(0);
    await other.close();
  });

  it("lists more records than one answer of the API server holds", async () => {
    const keys = Array.from({ length: 520 }, (_, i) => `many/${String(i).padStart(4, "0")}`);
    for (let i = 0; i < keys.length; i += 40)
      await Promise.all(keys.slice(i, i + 40).map((key) => store.write(key, bytes(key), { kind: "absent" })));
    const first = await store.list({ prefix: "many", limit: 300 });
    const second = await store.list({ prefix: "many", limit: 300, after: first.next });
    expect([...first.keys, ...second.keys]).toEqual(keys);
    expect(second.next).toBeUndefined();
  });

  it("takes the largest record that it may, and a Secret of others for none of its own", async () => {
    await cluster.call("POST", "/api/v1/namespaces/ociseal-records/secrets", {
      metadata: { name: "foreign", annotations: { "ociseal.dev/record-key": "foreign" } },
    });
    const largest = Buffer.alloc(1_000_000, 7);
    await store.write("large", largest, { kind: "any" });
    expect((await store.read("large"))?.bytes.equals(largest)).toBe(true);
    expect((await store.list({ prefix: "foreign", limit: 10 })).keys).toEqual([]);
  });

  it("waits for a token that is good again, when its own was revoked", async () => {
    const secrets = "/api/v1/namespaces/ociseal/secrets";
    await cluster.call("POST", secrets, { metadata: { name: "bound" } });
    const revoked = await cluster.accountToken("ociseal", "ociseal-kbs", undefined, { name: "bound" });
    await cluster.call("DELETE", `${secrets}/bound`);
    const file = join(folder, "rotated");
    await writeFile(file, revoked);
    const rotated = open("ociseal-records", file);
    await expect(rotated.read("race")).rejects.toMatchObject({
      code: "ERR_KBS_STORE_UNAVAILABLE",
      message: expect.stringContaining("token"),
    });
    await writeFile(file, await cluster.accountToken("ociseal", "ociseal-kbs"));
    expect((await rotated.read("race"))?.bytes.toString()).toBe("30");
    await rotated.close();
  });

  it("says that its namespace is missing, and that the certificate is not its cluster's", async () => {
    const file = join(folder, "administrator");
    await writeFile(file, await readFile(cluster.adminTokenFile));
    const nowhere = open("nowhere", file);
    for (const kind of ["absent", "any"] as const)
      await expect(nowhere.write("a", bytes("1"), { kind })).rejects.toMatchObject({
        code: "ERR_KBS_STORE_FAILED",
        hint: expect.stringContaining("namespace"),
      });
    await nowhere.close();
    const foreign = openKubernetesStore({ url: cluster.url, namespace: "ociseal-records", tokenFile });
    await expect(foreign.read("race")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await foreign.close();
  });

  it("is unavailable while the API server is down, and has everything that was acknowledged when it is back", async () => {
    await store.write("kept", bytes("1"), { kind: "any" });
    await cluster.kill();
    await expect(store.read("kept")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await expect(store.write("kept", bytes("2"), { kind: "any" })).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await cluster.start();
    expect((await store.read("kept"))?.bytes.toString()).toBe("1");
    expect((await store.list({ prefix: "many", limit: 1000 })).keys).toHaveLength(520);
  });
});
