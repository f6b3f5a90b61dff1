import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { validateAction } from "@action-validator/core";
import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { complaints, validate, type KubernetesObject } from "./kubernetes-schema.ts";

const root = resolve(import.meta.dirname, "../..");
const folders = ["deploy/kubernetes", "deploy/kubernetes-secrets"];

interface Kustomization extends KubernetesObject {
  readonly patches?: readonly { readonly path?: string }[];
}

const isKustomization = (object: KubernetesObject): object is Kustomization => object.apiVersion.startsWith("kustomize.config.k8s.io/");

const documents = folders.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".yaml"))
    .flatMap((name) =>
      parseAllDocuments(readFileSync(join(root, folder, name), "utf8"), { merge: true }).map((document) => ({
        name: join(folder, name),
        object: document.toJS() as KubernetesObject,
      })),
    ),
);
const kustomizations = documents.flatMap(({ name, object }) => (isKustomization(object) ? [{ name, object }] : []));
// Patches are parts of objects; what they make is looked at in kubernetes.test.ts.
const patches = new Set(
  kustomizations.flatMap(({ name, object }) =>
    (object.patches ?? []).flatMap(({ path }) => (path === undefined ? [] : [join(dirname(name), path)])),
  ),
);
const objects = documents.filter(({ name, object }) => !isKustomization(object) && !patches.has(name));

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

  it("are kustomizations whose members kustomize knows", () => {
    expect(kustomizations.map(({ name }) => dirname(name))).toEqual(folders);
    const known = new Set(["apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images", "patches"]);
    for (const { object } of kustomizations) expect(Object.keys(object).filter((name) => !known.has(name))).toEqual([]);
    expect(patches.size).toBeGreaterThan(0);
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
  job: new Set(["stage", "image", "id_tokens", "variables", "before_script", "script", "after_script", "artifacts", "rules", "needs"]),
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
