import { parseJson } from "../../src/bytes/index.ts";
import type { PolicyLanguage } from "../../src/kbs/index.ts";
import { textOfOpaBundle } from "../../src/policy/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { notFound, withAdmin, type KbsOptions } from "../kbs-connection.ts";
import { policyEngines } from "../policy-engines.ts";
import { formatTable } from "../table.ts";

const maxPolicy = 1 << 20;

/** What a file holds: nobody has to say it, for each begins in its own way. */
async function readPolicy(file: string): Promise<{ readonly language: PolicyLanguage; readonly text: string }> {
  const bytes = await readSmallFile(file, "policy", maxPolicy);
  const bundle = textOfOpaBundle(bytes);
  if (bundle !== undefined) return { language: "wasm", text: bundle };
  const text = bytes.toString("utf8");
  return { language: text.trimStart().startsWith("{") ? "json" : "rego", text };
}

export const policySet: Action<KbsOptions & { readonly id: string; readonly resources?: string; readonly dryRun?: boolean }> = async (
  shell,
  [file = ""],
  options,
) => {
  const { language, text } = await readPolicy(file);
  const { id, resources } = options;
  // What the service would refuse is told before anything is sent, with the place in the text.
  await policyEngines.find((engine) => engine.language === language)?.compileRelease(text, id);
  if (options.dryRun !== true)
    await withAdmin(shell, options, ({ policies }) => policies.put({ id, language, text, resources, signal: shell.signal }));
  await shell.result(`${options.dryRun === true ? "would set" : "set"} policy ${id} (${language}) on ${resources ?? "all resources"}`, {
    id,
    language,
    resources,
    dryRun: options.dryRun === true,
  });
};

export const policyGet: Action<KbsOptions> = async (shell, [id = "resource-policy"], options) => {
  const policy = await withAdmin(shell, options, ({ policies }) => policies.get(id, { signal: shell.signal }));
  await shell.result(policy.text.trimEnd(), policy);
};

export const policyList: Action<KbsOptions> = async (shell, _args, options) => {
  const policies = await withAdmin(shell, options, (admin) => admin.policies.list({ signal: shell.signal }));
  const rows = policies.map(({ id, language, resources, version, createdAt, createdBy }) => [
    id,
    language,
    resources,
    String(version),
    createdAt,
    createdBy,
  ]);
  await shell.result(formatTable(["ID", "LANGUAGE", "RESOURCES", "VERSION", "CREATED", "BY"], rows, shell.stdout.columns), { policies });
};

export const policyDelete: Action<KbsOptions & { readonly dryRun?: boolean }> = async (shell, [id = ""], options) => {
  const { dryRun = false } = options;
  await withAdmin(shell, options, async ({ policies }) => {
    if (dryRun) await policies.get(id, { signal: shell.signal });
    else await policies.delete(id, { signal: shell.signal });
  });
  await shell.result(`${dryRun ? "would delete" : "deleted"} policy ${id}`, { id, dryRun });
};

export const policyEvaluate: Action<KbsOptions & { readonly claims?: string; readonly token?: string }> = async (
  shell,
  [uri = ""],
  options,
) => {
  const { claims, token } = options;
  if ((claims === undefined) === (token === undefined)) throw usage("give --claims FILE or --token FILE");
  const trial = await withAdmin(shell, options, async ({ policies }) =>
    policies.evaluate({
      resource: uri.replace(/^kbs:\/\/\//, ""),
      ...(claims === undefined
        ? {}
        : { claims: parseJson(await readSmallFile(claims, "claims"), { maxBytes: maxPolicy, subject: claims }) }),
      ...(token === undefined ? {} : { token: (await readSmallFile(token, "attestation token", 64 * 1024)).toString("utf8").trim() }),
      signal: shell.signal,
    }),
  );
  const lines = [`${trial.allow ? "allowed" : "denied"} by ${trial.policy}`, ...trial.reasons.map((reason) => `  ${reason}`)];
  await shell.result(lines.join("\n"), trial);
  if (!trial.allow) shell.exitWith("denied");
};

export const attestationSet: Action<KbsOptions & { readonly id: string; readonly dryRun?: boolean }> = async (
  shell,
  [file = ""],
  options,
) => {
  const { language, text } = await readPolicy(file);
  const { id, dryRun = false } = options;
  const compile = policyEngines.find((engine) => engine.language === language)?.compileAppraisal;
  if (compile === undefined) throw usage("an appraisal policy is Rego, or a bundle that OPA compiled", "JSON policies are for releases");
  // Trustee stores whatever it gets; with a policy that is none, nobody attests any more.
  await compile(text, id);
  if (!dryRun)
    await withAdmin(shell, options, ({ attestationPolicies }) => attestationPolicies.put({ id, language, text, signal: shell.signal }));
  await shell.result(`${dryRun ? "would set" : "set"} appraisal policy ${id}`, { id, dryRun });
};

export const attestationGet: Action<KbsOptions> = async (shell, [id = "default_cpu"], options) => {
  const policy = await withAdmin(shell, options, ({ attestationPolicies }) => attestationPolicies.get(id, { signal: shell.signal }));
  await shell.result(policy.text.trimEnd(), policy);
};

type ReferenceOptions = KbsOptions & { readonly expires?: string; readonly value?: string; readonly dryRun?: boolean };

export const referenceSet: Action<ReferenceOptions> = async (shell, [name = "", ...values], options) => {
  const { value: text } = options;
  if ((values.length === 0) === (text === undefined))
    throw usage("give values, or one JSON value with --value", `ociseal kbs reference set ${name} VALUE…`);
  const value = text === undefined ? values : parseJson(text, { maxBytes: maxPolicy, maxDepth: 8, subject: "--value" });
  const expiresAt = options.expires === undefined ? undefined : new Date(options.expires);
  if (expiresAt !== undefined && Number.isNaN(expiresAt.getTime())) throw usage("--expires takes a moment like 2027-01-31T12:00:00Z");
  const { dryRun = false } = options;
  if (!dryRun) await withAdmin(shell, options, ({ references }) => references.set({ [name]: value }, { expiresAt, signal: shell.signal }));
  await shell.result(`${dryRun ? "would set" : "set"} ${name}`, { name, value, dryRun });
};

export const referenceList: Action<KbsOptions> = async (shell, _args, options) => {
  const values = await withAdmin(shell, options, ({ references }) => references.list({ signal: shell.signal }));
  const rows = values.map(({ name, value, expiresAt, expired }) => [name, expired ? "expired" : expiresAt, JSON.stringify(value)]);
  await shell.result(formatTable(["NAME", "EXPIRES", "VALUES"], rows, shell.stdout.columns), { values });
};

export const referenceDelete: Action<KbsOptions & { readonly dryRun?: boolean }> = async (shell, [name = ""], options) => {
  const { dryRun = false } = options;
  await withAdmin(shell, options, async ({ references }) => {
    if (!dryRun) await references.delete(name, { signal: shell.signal });
    else if (!(await references.list({ signal: shell.signal })).some((value) => value.name === name))
      throw notFound(`no reference values of ${name}`, "ociseal kbs reference list shows what there is");
  });
  await shell.result(`${dryRun ? "would delete" : "deleted"} ${name}`, { name, dryRun });
};
