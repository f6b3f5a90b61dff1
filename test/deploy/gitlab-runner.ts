import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { cleanEnvironment } from "../cli/run.ts";

/**
 * As much of GitLab as a job of an included template sees: inputs, id tokens, variables, and a shell that reads the script.
 * Source: GitLab, "CI/CD inputs", "CI/CD YAML syntax reference" (`id_tokens`, `after_script`), "Where variables can be used";
 * gitlab-runner, shells/bash.go (`set -eo pipefail`; the script is read from stdin, after_script by a shell of its own).
 */
export interface JobRun {
  readonly status: number;
  readonly log: string;
  /** The dotenv report, for later jobs. */
  readonly variables: Readonly<Record<string, string>>;
}

interface Input {
  readonly default?: string | boolean;
  readonly options?: readonly string[];
  readonly type?: "string" | "boolean";
}

interface JobDefinition {
  readonly id_tokens?: Readonly<Record<string, { readonly aud: string }>>;
  readonly variables?: Readonly<Record<string, string>>;
  readonly script: readonly string[];
  readonly after_script?: readonly string[];
  readonly artifacts?: { readonly reports?: { readonly dotenv?: string } };
}

export interface GitlabJob {
  readonly template: string;
  readonly inputs: Readonly<Record<string, string | boolean>>;
  readonly project: string;
  readonly shell: "bash" | "sh";
  /** What GitLab and the project's settings set. */
  readonly variables: Readonly<Record<string, string>>;
  readonly token: (audience: string) => Promise<string>;
}

/** Runs the template's only job. Throws what GitLab would refuse the pipeline for. */
export async function runGitlabJob(job: GitlabJob): Promise<JobRun> {
  const definition = await definitionOf(job);
  const predefined: Record<string, string> = { CI: "true", GITLAB_CI: "true", CI_JOB_ID: "4711", CI_PROJECT_DIR: job.project };
  for (const [name, { aud }] of Object.entries(definition.id_tokens ?? {})) predefined[name] = await job.token(aud);
  const known: Readonly<Record<string, string>> = { ...predefined, ...definition.variables, ...job.variables };
  const variables = Object.fromEntries(Object.entries(known).map(([name, value]) => [name, expand(value, known)]));
  const run = (lines: readonly string[]) => runShell(job, lines, variables);
  const main = await run(definition.script);
  const after = await run(definition.after_script ?? []);
  const dotenv = definition.artifacts?.reports?.dotenv;
  const text = dotenv === undefined ? "" : await readFile(join(job.project, dotenv), "utf8").catch(() => "");
  const pairs = text.split("\n").filter((line) => line !== "");
  return {
    status: main.status,
    log: mask(
      main.log + after.log,
      [...Object.keys(definition.id_tokens ?? {}), "CI_REGISTRY_PASSWORD"].map((name) => variables[name] ?? ""),
    ),
    variables: Object.fromEntries(pairs.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)])),
  };
}

async function definitionOf({ template, inputs }: GitlabJob): Promise<JobDefinition> {
  const [header = "", body = ""] = (await readFile(template, "utf8")).split(/^---$/m);
  const [top] = parseAllDocuments(header).map((document) => document.toJS() as unknown);
  const { spec } = top as { readonly spec: { readonly inputs: Readonly<Record<string, Input | null>> } };
  for (const name of Object.keys(inputs)) if (!Object.hasOwn(spec.inputs, name)) throw new Error(`unknown input arguments: ${name}`);
  const valueOf = (name: string): string => {
    const { default: standard, options, type = "string" } = spec.inputs[name] ?? {};
    const value = inputs[name] ?? standard;
    if (value === undefined) throw new Error(`${name} input: required value has not been provided`);
    if (typeof value !== type) throw new Error(`${name} input: provided value is not a ${type}`);
    if (options !== undefined && !options.includes(String(value))) throw new Error(`${name} input: ${value} is not among the options`);
    return String(value);
  };
  // Put in after parsing, as GitLab does: a value is one value, whatever characters it has.
  const filled = (value: unknown): unknown => {
    if (typeof value === "string")
      return value.replaceAll(/\$\[\[ inputs\.([\w-]+) \]\]/g, (_, name: string) => {
        if (!Object.hasOwn(spec.inputs, name)) throw new Error(`unknown input name provided: ${name}`);
        return valueOf(name);
      });
    if (Array.isArray(value)) return value.map(filled);
    if (typeof value === "object" && value !== null)
      return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, filled(member)]));
    return value;
  };
  const jobs = Object.values(filled(parseAllDocuments(body)[0]?.toJS()) as Record<string, JobDefinition>);
  const [only] = jobs;
  if (only === undefined || jobs.length !== 1) throw new Error(`the template has ${jobs.length} jobs`);
  return only;
}

/** Variables in variables, as the runner expands them. */
function expand(text: string, known: Readonly<Record<string, string>>, depth = 0): string {
  if (depth > 5) return text;
  return text.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced?: string, bare?: string) =>
    expand(known[braced ?? bare ?? ""] ?? "", known, depth + 1),
  );
}

function runShell(
  { shell, project }: GitlabJob,
  lines: readonly string[],
  variables: Readonly<Record<string, string>>,
): Promise<{ readonly status: number; readonly log: string }> {
  return new Promise((done, failed) => {
    const child = spawn(shell, { cwd: project, env: cleanEnvironment(variables), stdio: ["pipe", "pipe", "pipe"] });
    const log: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => log.push(chunk));
    child.once("error", failed);
    child.once("close", (status) => done({ status: status ?? -1, log: Buffer.concat(log).toString("utf8") }));
    const options = shell === "bash" ? "set -eo pipefail\nset +o noclobber\n" : "set -e\n";
    // One command that is read whole before it runs, so that a program which reads stdin does not eat the script.
    child.stdin.end(`${options}{ :\n${lines.join("\n")}\n} < /dev/null\n`);
  });
}

function mask(text: string, secrets: readonly string[]): string {
  return secrets.filter((secret) => secret !== "").reduce((shown, secret) => shown.replaceAll(secret, "[MASKED]"), text);
}
