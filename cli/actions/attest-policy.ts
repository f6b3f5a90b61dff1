import { attestationReport, createPolicy, explain, lintPolicy, parsePolicy, requireAccepted } from "../../src/attestation/index.ts";
import type { Action } from "../command.ts";
import { judgeEvidence, type EvidenceOptions } from "../evidence.ts";
import { readSmallFile } from "../files.ts";

export const attestPolicyCreate: Action<EvidenceOptions & { readonly from: string; readonly name: string }> = async (
  shell,
  _args,
  options,
) => {
  const { result } = await judgeEvidence(options.from, options);
  const policy = createPolicy(requireAccepted(result), { name: options.name });
  await shell.result(JSON.stringify(policy, undefined, 2), policy);
};

export const attestPolicyLint: Action<object> = async (shell, [file = ""]) => {
  const findings = lintPolicy(parsePolicy(await readSmallFile(file, "policy", 4 << 20)));
  const lines = findings.map(({ path, message, hint }) => `${path}: ${message}${hint === undefined ? "" : `\n  ${hint}`}`);
  await shell.result(lines.length === 0 ? `${file} leaves nothing unchecked` : lines.join("\n"), { findings });
};

export const attestPolicyExplain: Action<EvidenceOptions> = async (shell, [file = ""], options) => {
  const { result, appraisal } = await judgeEvidence(file, options);
  await shell.result(explain(result, appraisal).join("\n"), attestationReport(result, appraisal));
  if (result.verdict === "reject" || appraisal.verdict === "reject") shell.exitWith("attestation");
};
