import { createInterface } from "node:readline";
import { attestationReport, explain } from "../../src/attestation/index.ts";
import { parseJson } from "../../src/bytes/index.ts";
import type { Action } from "../command.ts";
import { CliError, usage } from "../errors.ts";
import { judgeEvidence, type EvidenceOptions } from "../evidence.ts";
import { describeFailure } from "../failure.ts";
import type { Shell } from "../shell.ts";

interface VerifyOptions extends EvidenceOptions {
  readonly batch?: boolean;
}

export const attestVerify: Action<VerifyOptions> = async (shell, [file], options) => {
  if (options.batch === true) return batch(shell, options);
  if (file === undefined) throw usage("no evidence was named", "give a file, or --batch");
  const { result, appraisal } = await judgeEvidence(file, options);
  const accepted = result.verdict === "accept" && appraisal.verdict === "accept";
  await shell.result(explain(result, appraisal).join("\n"), attestationReport(result, appraisal));
  if (!accepted) shell.exitWith("attestation");
};

const maxLine = 1 << 20;
const members = ["tee", "collateral", "vek", "ask", "ark", "crl", "at", "policy", "report-data", "event-log"] as const;

/** One answer per line, in order; a line that cannot be judged answers with its error, and the others go on. */
async function batch(shell: Shell, defaults: EvidenceOptions): Promise<void> {
  let refused = false;
  for await (const line of createInterface({ input: shell.stdin, crlfDelay: Infinity })) {
    if (line.trim() === "") continue;
    let answer: unknown;
    try {
      const { file, options } = parseLine(line, defaults);
      const { result, appraisal } = await judgeEvidence(file, options);
      if (result.verdict === "reject" || appraisal.verdict === "reject") refused = true;
      answer = attestationReport(result, appraisal);
    } catch (error) {
      refused = true;
      answer = describeFailure(error, shell.signal.aborted).document;
    }
    await new Promise<void>((resolve, reject) =>
      shell.stdout.write(`${JSON.stringify(answer)}\n`, (error) => (error ? reject(error) : resolve())),
    );
  }
  if (refused) shell.exitWith("attestation");
}

function parseLine(line: string, defaults: EvidenceOptions): { readonly file: string; readonly options: EvidenceOptions } {
  const value = parseJson(line, { maxBytes: maxLine, maxDepth: 4, subject: "batch line" });
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw usage("a batch line is one JSON object");
  const { evidence, "trust-root": trustRoot, ...rest } = value as Record<string, unknown>;
  if (typeof evidence !== "string") throw usage('a batch line names the evidence file as "evidence"');
  const options: Record<string, unknown> = { ...defaults };
  for (const [name, text] of Object.entries(rest)) {
    if (!members.some((member) => member === name))
      throw new CliError("ERR_USAGE", {
        message: `a batch line has the unknown member ${JSON.stringify(name.slice(0, 60))}`,
        hint: `known: evidence, trust-root, ${members.join(", ")}`,
      });
    if (typeof text !== "string") throw usage(`the member ${name} of a batch line is not text`);
    options[name.replace(/-(.)/g, (_match, letter: string) => letter.toUpperCase())] = text;
  }
  if (trustRoot !== undefined) options["trustRoot"] = (Array.isArray(trustRoot) ? trustRoot : [trustRoot]).map(String);
  return { file: evidence, options };
}
