import type { Finding } from "../findings.ts";
import type { VerificationResult } from "../result.ts";
import type { Appraisal } from "./appraise.ts";

/**
 * A refusal or acceptance in words, one line each: what was looked at, what it has, what it needs, and what would satisfy
 * it. Refusals first.
 */
export function explain(result: VerificationResult, appraisal: Appraisal): readonly string[] {
  const findings = [...result.findings, ...appraisal.findings];
  const rank = { refusal: 0, warning: 1, note: 2 } as const;
  const sorted = findings.toSorted((left, right) => rank[left.severity] - rank[right.severity]);
  return [headline(result, appraisal), ...sorted.flatMap(explainFinding)];
}

function headline(result: VerificationResult, appraisal: Appraisal): string {
  const tee = result.tee ?? "the";
  if (result.verdict === "reject") return `${tee} evidence does not hold; no policy can accept it`;
  const status = result.tcbStatus === undefined ? "" : ` (TCB ${result.tcbStatus})`;
  if (appraisal.verdict === "reject") return `${tee} evidence is genuine${status}, and policy "${appraisal.policy}" refuses it`;
  return appraisal.identity === "identified"
    ? `${tee} evidence is genuine${status}, and policy "${appraisal.policy}" recognises the guest`
    : `${tee} evidence is genuine${status}; policy "${appraisal.policy}" accepts it without saying which guest it is`;
}

function explainFinding(finding: Finding): readonly string[] {
  const lines = [`${finding.severity} ${finding.code} at ${finding.path}: ${finding.message}`];
  if (finding.actual !== undefined) lines.push(`  have: ${finding.actual}`);
  if (finding.expected !== undefined) lines.push(`  need: ${finding.expected}`);
  if (finding.hint !== undefined && finding.hint !== "") lines.push(`  to satisfy it: ${finding.hint}`);
  return lines;
}
