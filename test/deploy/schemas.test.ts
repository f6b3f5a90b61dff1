import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { validateAction } from "@action-validator/core";
import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";

const root = resolve(import.meta.dirname, "../..");
const kubernetes = join(root, "deploy/kubernetes");

interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
}

const documents = readdirSync(kubernetes, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".yaml"))
  .flatMap((name) =>
    parseAllDocuments(readFileSync(join(kubernetes, name), "utf8"), { merge: true }).map((document) => ({
      name,
      object: document.toJS() as KubernetesObject,
    })),
  );
const objects = documents.filter(({ object }) => !object.apiVersion.startsWith("kustomize.config.k8s.io/"));

interface Model {
  validate(): void;
}

/** Throws where a member has a wrong type or is missing, by the API server's own OpenAPI schema. */
async function validate(object: KubernetesObject): Promise<void> {
  const models = (await import(/* @vite-ignore */ `kubernetes-models/${object.apiVersion}`)) as Readonly<
    Record<string, new (from: object) => Model>
  >;
  const Kind = models[object.kind];
  if (Kind === undefined) throw new Error(`there is no ${object.kind} in ${object.apiVersion}`);
  new Kind(object).validate();
}

/** What the compiler says of the objects as literals of their types: the members that a schema without `additionalProperties` lets pass. */
function complaints(list: readonly KubernetesObject[]): readonly string[] {
  // Below node_modules, so that the types are found and no other check sees the file.
  const folder = mkdtempSync(join(root, "node_modules/.kubernetes-"));
  try {
    const lines = list.map(
      (object, i) =>
        `export const object${i}: import("kubernetes-models/${object.apiVersion}").I${object.kind} = ${JSON.stringify(object)};`,
    );
    writeFileSync(join(folder, "objects.ts"), `${lines.join("\n")}\n`);
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--ignoreConfig", join(folder, "objects.ts")];
    const result = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...flags], { encoding: "utf8", cwd: root });
    return result.stdout.split("\n").filter((line) => line !== "");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("the Kubernetes manifests", () => {
  it("are what the API server takes, by its schema", async () => {
    expect(objects.length).toBeGreaterThan(15);
    for (const { name, object } of objects) await expect(validate(object), `${name}: ${object.kind}`).resolves.toBeUndefined();
    await expect(validate({ apiVersion: "apps/v1", kind: "Deployment", spec: { replicas: "two" } } as KubernetesObject)).rejects.toThrow();
    await expect(validate({ apiVersion: "apps/v1", kind: "Deploiment" })).rejects.toThrow("there is no Deploiment");
  });

  it("have no member that the API server does not know", () => {
    expect(complaints(objects.map(({ object }) => object))).toEqual([]);
    const misspelt = { apiVersion: "v1", kind: "Pod", spec: { containers: [{ name: "a", imagePullPolise: "Always" }] } };
    expect(complaints([misspelt]).join("\n")).toContain("imagePullPolise");
  });

  it("are one kustomization, whose members kustomize knows", () => {
    const [kustomization, ...others] = documents.filter(({ object }) => object.apiVersion.startsWith("kustomize.config.k8s.io/"));
    expect(others).toEqual([]);
    const known = new Set(["apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images"]);
    expect(Object.keys(kustomization?.object ?? {}).filter((name) => !known.has(name))).toEqual([]);
  });
});

describe("the GitHub Action", () => {
  it("is what GitHub takes, by its schema", () => {
    const text = readFileSync(join(root, "action.yml"), "utf8");
    // The validator's schema ends at node20; the runner takes node24 too (actions/runner, ActionManifestManager.cs).
    expect(text).toMatch(/^ {2}using: node24$/m);
    expect(validateAction(text.replace("using: node24", "using: node20")).errors).toEqual([]);
    expect(validateAction("name: x\ndescription: y\nruns:\n  using: composite\n  stepz: []\n").errors).not.toEqual([]);
  });
});

/** The members of a job and of a component's inputs that the template uses. Source: GitLab, "CI/CD YAML syntax reference". */
const gitlabMembers = {
  inputs: new Set(["default", "description", "options", "regex", "type"]),
  job: new Set(["stage", "image", "id_tokens", "variables", "before_script", "script", "after_script", "rules", "needs", "interruptible"]),
};

describe("the GitLab template", () => {
  const [header, body, ...more] = parseAllDocuments(readFileSync(join(root, "deploy/gitlab/seal.gitlab-ci.yml"), "utf8")).map(
    (document) => document.toJS() as Record<string, Record<string, Record<string, unknown>>>,
  );

  it("is a header with inputs, and one job of known members", () => {
    expect(more).toEqual([]);
    const inputs = header?.["spec"]?.["inputs"] ?? {};
    expect(Object.keys(inputs).length).toBeGreaterThan(5);
    for (const [name, input] of Object.entries(inputs))
      for (const member of Object.keys(input ?? {})) expect(gitlabMembers.inputs, name).toContain(member);
    const jobs = Object.entries(body ?? {});
    expect(jobs.map(([name]) => name)).toEqual(["ociseal"]);
    for (const member of Object.keys(jobs[0]?.[1] ?? {})) expect(gitlabMembers.job).toContain(member);
  });

  it("uses every input that it declares, and declares every one that it uses", () => {
    const text = readFileSync(join(root, "deploy/gitlab/seal.gitlab-ci.yml"), "utf8");
    const used = new Set([...text.matchAll(/\$\[\[ inputs\.([a-z-]+) \]\]/g)].map((match) => match[1]));
    expect(used).toEqual(new Set(Object.keys(header?.["spec"]?.["inputs"] ?? {})));
  });
});

describe("the Prometheus rules", () => {
  it("have the members that Prometheus knows, and durations that it reads", () => {
    const { groups } = parse(readFileSync(join(root, "deploy/prometheus/rules.yaml"), "utf8")) as {
      groups: { name: string; rules: Record<string, unknown>[] }[];
    };
    const known = new Set(["alert", "expr", "for", "labels", "annotations", "keep_firing_for"]);
    const rules = groups.flatMap((group) => group.rules);
    expect(rules.length).toBeGreaterThan(8);
    for (const rule of rules) {
      for (const member of Object.keys(rule)) expect(known).toContain(member);
      expect(rule["for"] ?? "0s").toMatch(/^\d+[smhd]$/);
      expect(rule["labels"]).toMatchObject({ severity: expect.stringMatching(/^(info|warning|critical)$/) });
    }
    const names = rules.map((rule) => rule["alert"]);
    expect(new Set(names).size).toBe(names.length);
  });
});
