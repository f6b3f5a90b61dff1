import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { makeProgram } from "../cli/program.ts";
import { checkKbsConfig } from "../src/kbs/index.ts";

const root = resolve(import.meta.dirname, "..");
const deploy = join(root, "deploy");
const files = readdirSync(deploy, { recursive: true, encoding: "utf8" }).map((name) => join(deploy, name));
const text = (name: string): string => readFileSync(join(root, name), "utf8");

type Tree = Readonly<Record<string, unknown>>;
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);

function documents(path: string): readonly Tree[] {
  return parseAllDocuments(readFileSync(path, "utf8"), { uniqueKeys: true, prettyErrors: true }).map((document) => {
    expect([...document.errors, ...document.warnings], path).toEqual([]);
    const value: unknown = document.toJS();
    expect(isTree(value), path).toBe(true);
    return value as Tree;
  });
}

/** Every object below a value that has a member of this name. */
function having(value: unknown, member: string): readonly Tree[] {
  if (Array.isArray(value)) return value.flatMap((item) => having(item, member));
  if (!isTree(value)) return [];
  return [...(member in value ? [value] : []), ...Object.values(value).flatMap((item) => having(item, member))];
}

const yamlFiles = files.filter((path) => path.endsWith(".yaml") || path.endsWith(".yml"));
const manifests = yamlFiles
  .filter((path) => path.includes("/kubernetes/"))
  .flatMap((path) => documents(path).map((document) => ({ path, document })));
const pods = manifests.flatMap(({ path, document }) => having(document, "containers").map((spec) => ({ path, spec })));
const containers = pods.flatMap(({ path, spec }) =>
  ["initContainers", "containers"].flatMap((kind) =>
    (Array.isArray(spec[kind]) ? spec[kind] : []).filter(isTree).map((container) => ({ path, spec, container })),
  ),
);

/** Parses a command line as the program would, without running anything. */
function parseCommand(args: readonly string[]): void {
  makeProgram({ launch: () => async () => undefined }, { json: false, width: 100 }).parse([...args], { from: "user" });
}

describe("the deployment files", () => {
  it("are YAML and JSON", () => {
    expect(yamlFiles.length).toBeGreaterThan(8);
    for (const path of [...yamlFiles, join(root, "action.yml")]) expect(documents(path).length, path).toBeGreaterThan(0);
    for (const path of files.filter((name) => name.endsWith(".json"))) expect(JSON.parse(readFileSync(path, "utf8")), path).toBeTruthy();
  });

  it("have no number that some readers take for octal and others for decimal", () => {
    for (const path of yamlFiles) expect(readFileSync(path, "utf8"), path).not.toMatch(/[:,[] +0\d+ *(?:[,\]}#]|$)/m);
    expect("defaultMode: 0440 }").toMatch(/[:,[] +0\d+ *(?:[,\]}#]|$)/m);
  });

  it("hold configurations that the service takes", () => {
    const configs = files.filter((path) => path.endsWith(".toml"));
    expect(configs.length).toBe(3);
    for (const path of configs) expect(checkKbsConfig(readFileSync(path, "utf8")), path).toEqual([]);
  });

  it("name only metrics that the service has", () => {
    const known = new Set(
      [...text("src/kbs/metrics/service-metrics.ts").matchAll(/"((?:kbs|tee|ociseal)_[a-z_]+)"/g)].map((match) => match[1] ?? ""),
    );
    expect(known.size).toBeGreaterThan(20);
    const rules = having(documents(join(deploy, "prometheus/rules.yaml")), "expr");
    const dashboard: unknown = JSON.parse(text("deploy/grafana/dashboard.json"));
    const expressions = [...rules, ...having(dashboard, "expr")].map(({ expr }) => String(expr));
    expect(expressions.length).toBeGreaterThan(25);
    for (const expression of expressions) {
      const names = [...expression.replaceAll(/by \([^)]*\)/g, "").matchAll(/\b(?:kbs|tee|ociseal)_[a-z_]+/g)].map(([name]) =>
        name.replace(/_(bucket|sum|count)$/, ""),
      );
      expect(names.length, expression).toBeGreaterThan(0);
      for (const name of names) expect(known, expression).toContain(name);
    }
    for (const rule of rules)
      expect(rule, JSON.stringify(rule)).toMatchObject({ alert: expect.any(String), annotations: { action: expect.any(String) } });
  });
});

describe("the Kubernetes manifests", () => {
  it("have a kind and a name, and kustomize names files that are there", () => {
    for (const { path, document } of manifests) {
      expect(document, path).toMatchObject({ apiVersion: expect.any(String), kind: expect.any(String) });
      for (const resource of Array.isArray(document["resources"]) && document["kind"] === "Kustomization" ? document["resources"] : [])
        expect(existsSync(join(dirname(path), String(resource))), String(resource)).toBe(true);
    }
    const named = manifests.filter(({ document }) => document["kind"] !== "Kustomization");
    for (const { path, document } of named) expect(document, path).toMatchObject({ metadata: { name: expect.any(String) } });
    expect(manifests.map(({ document }) => document["kind"])).toEqual(
      expect.arrayContaining([
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceAccount",
        "StatefulSet",
        "Job",
        "Pod",
      ]),
    );
  });

  it("run as a user without rights; the only exception is the container that makes TEE reports, without capabilities", () => {
    expect(containers.length).toBeGreaterThan(4);
    for (const { path, spec, container } of containers) {
      expect(spec["securityContext"], path).toMatchObject({
        runAsNonRoot: true,
        runAsUser: expect.any(Number),
        seccompProfile: { type: "RuntimeDefault" },
      });
      expect(container["securityContext"], `${path} ${String(container["name"])}`).toMatchObject({
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["ALL"] },
      });
      expect(isTree(container["resources"]) && "limits" in container["resources"], path).toBe(true);
    }
    const asRoot = containers.filter(
      ({ container }) => isTree(container["securityContext"]) && container["securityContext"]["runAsUser"] === 0,
    );
    expect(asRoot.map(({ container }) => container["name"])).toEqual(["unseal"]);
  });

  it("mount only volumes that the pod has, and leave none unmounted", () => {
    for (const { path, spec } of pods) {
      const here = containers.filter((one) => one.spec === spec).flatMap(({ container }) => having(container, "mountPath"));
      const mounted = new Set(here.map(({ name }) => name));
      const claims = manifests.filter((one) => one.path === path).flatMap(({ document }) => having(document, "volumeClaimTemplates"));
      const templates = claims.flatMap((claim) => having(claim["volumeClaimTemplates"], "name")).map(({ name }) => name);
      const volumes = (Array.isArray(spec["volumes"]) ? spec["volumes"] : []).filter(isTree).map(({ name }) => name);
      expect(new Set([...volumes, ...templates]), path).toEqual(mounted);
    }
  });

  it("name the service as its certificate does", () => {
    const name = /`ociseal-kbs-tls` \|[^|]* for `([^`]+)`/.exec(text("docs/how-to/run-the-kbs.md"))?.[1];
    expect(name).toBe("ociseal-kbs.ociseal.svc");
    const urls = yamlFiles.flatMap((path) => readFileSync(path, "utf8").match(/https:\/\/ociseal-kbs[^\s"',]*/g) ?? []);
    expect(urls.length).toBeGreaterThan(3);
    for (const url of urls) expect(new URL(url).hostname).toBe(name);
  });

  it("select pods that there are", () => {
    const labels = new Set(
      manifests.flatMap(({ document }) => having(document, "app.kubernetes.io/name")).map((tree) => tree["app.kubernetes.io/name"]),
    );
    const selected = manifests
      .filter(({ document }) => ["NetworkPolicy", "Service", "PodDisruptionBudget"].includes(String(document["kind"])))
      .flatMap(({ document }) => having(document, "app.kubernetes.io/name"))
      .map((tree) => tree["app.kubernetes.io/name"]);
    expect(selected.length).toBeGreaterThan(5);
    for (const name of selected) expect(labels).toContain(name);
  });

  it("give the program command lines that it takes", () => {
    const ours = containers.filter(({ container }) => /(^|\/)ociseal(:|$)/.test(String(container["image"])));
    expect(ours.length).toBe(5);
    for (const { container } of ours) expect(() => parseCommand((container["args"] as string[]).map(String))).not.toThrow();
    expect(() => parseCommand(["encrypt", "--no-such-flag"])).toThrow("unknown option");
  });
});

describe("the other recipes", () => {
  it("end with an image that is not root's, on a base without a shell", () => {
    const dockerfile = text("deploy/Dockerfile");
    const stages = dockerfile.split(/^FROM /m).slice(1);
    expect(stages.length).toBeGreaterThan(1);
    const last = stages.at(-1) ?? "";
    expect(last).toMatch(/^USER 65532:65532$/m);
    expect(last).not.toMatch(/^RUN /m);
    expect(last).toMatch(/^ENTRYPOINT \[/m);
    // The program is its bundle and what the bundle loads when asked to; the library's folder stays out.
    const { files: published } = JSON.parse(text("package.json")) as { readonly files: readonly string[] };
    const programs = published.filter((name) => /^(bin|dist)\//.test(name) && name !== "dist/src");
    expect(programs).toEqual(["bin/ociseal.js", "dist/bundle"]);
    for (const name of programs) expect(last, name).toContain(`/app/${name}`);
    expect(stages[1]).toContain("require('./package.json').peerDependencies");
    // The build has all of its own modules.
    const modules = [...text("scripts/build.ts").matchAll(/from "\.\/([a-z-]+\.ts)"/g)].map((match) => `scripts/${match[1] ?? ""}`);
    for (const name of ["scripts/build.ts", ...modules]) expect(stages[0], name).toContain(name);
    for (const [, list = ""] of dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm))
      for (const name of list.split(" ")) expect(existsSync(join(root, name)), name).toBe(true);
  });

  it("run shell that a shell can read, with inputs as environment only; the action runs none", () => {
    const [action] = documents(join(root, "action.yml"));
    expect(having(action, "run")).toEqual([]);
    const [runs] = having(action, "using");
    for (const name of [runs?.["main"], runs?.["post"]]) expect(existsSync(join(root, String(name))), String(name)).toBe(true);
    const gitlab = documents(join(deploy, "gitlab/seal.gitlab-ci.yml"));
    const jobs = having(gitlab, "script");
    expect(jobs.length).toBe(1);
    const lines = jobs.flatMap(({ script }) => script as readonly string[]).join("\n");
    expect(lines).not.toContain("$[[");
    expect(spawnSync("bash", ["-n"], { input: lines, encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  });

  it("start the service with a configuration that was checked, and let it dump no core", () => {
    const unit = text("deploy/systemd/ociseal-kbs.service");
    for (const line of ["LimitCORE=0", "DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="])
      expect(unit.split("\n")).toContain(line);
    const commands = [...unit.matchAll(/^Exec(?:Start|StartPre)=\/usr\/bin\/env ociseal (.*)$/gm)].map((match) => match[1] ?? "");
    expect(commands.length).toBe(2);
    for (const command of commands) expect(() => parseCommand(command.split(" ")), command).not.toThrow();
  });
});
