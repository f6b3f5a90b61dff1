import type { ErrorCategory } from "../../src/errors/index.ts";
import type { Action } from "../command.ts";
import { examineCredentials } from "../doctor/credentials.ts";
import { doctorTopics, type DoctorOptions, type DoctorTopic, type Examination, type Finding, type Patient } from "../doctor/finding.ts";
import { examineGuest } from "../doctor/guest.ts";
import { examineKbs } from "../doctor/kbs.ts";
import { examineKeyprovider } from "../doctor/keyprovider.ts";
import { examineRegistry } from "../doctor/registry.ts";
import { examineRuntime } from "../doctor/runtime.ts";
import { examineContainerd } from "../doctor/containerd.ts";
import { examineCrio } from "../doctor/crio.ts";
import { usage } from "../errors.ts";
import { printable } from "../table.ts";

const examinations: Readonly<Record<DoctorTopic, Examination>> = {
  runtime: examineRuntime,
  credentials: examineCredentials,
  registry: examineRegistry,
  kbs: examineKbs,
  keyprovider: examineKeyprovider,
  guest: examineGuest,
  containerd: examineContainerd,
  crio: examineCrio,
};

/** Where the doctor looks; a test offers its own. */
export type Surroundings = Pick<Patient, "root" | "nodeVersion" | "now">;

export function doctorIn(surroundings: Surroundings): Action<DoctorOptions> {
  return async (shell, [topic], options) => {
    const known = doctorTopics.find((one) => one === topic);
    if (topic !== undefined && known === undefined) throw usage(`there is no topic ${topic}`, `topics: ${doctorTopics.join(", ")}`);
    const findings: Finding[] = [];
    for (const one of known === undefined ? doctorTopics : [known])
      findings.push(...(await examinations[one]({ ...surroundings, shell, options, asked: known !== undefined })));
    const failed = findings.find(({ verdict }) => verdict === "fail");
    await shell.result(findings.flatMap(linesOf).join("\n"), { healthy: failed === undefined, findings });
    if (failed !== undefined) shell.exitWith(categoryOf(failed.topic));
  };
}

export const doctor = doctorIn({ root: "/", nodeVersion: process.versions.node, now: () => new Date() });

/** The first failure's kind, so that a script can tell a service that is down from a file that is wrong. */
function categoryOf(topic: DoctorTopic): ErrorCategory {
  if (topic === "kbs" || topic === "registry") return "unavailable";
  return topic === "guest" ? "attestation" : "usage";
}

const marks: Readonly<Record<Finding["verdict"], string>> = { ok: "ok  ", warn: "warn", fail: "FAIL", "not-checked": "-   " };

function linesOf({ topic, check, verdict, message, fix }: Finding): readonly string[] {
  const line = `${marks[verdict]}  ${topic}: ${check}: ${message}`;
  return ((verdict !== "warn" && verdict !== "fail") || fix === undefined ? [line] : [line, `      fix: ${fix}`]).map(printable);
}
