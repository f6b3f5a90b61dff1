import { createHash } from "node:crypto";
import type { PolicyDecision, ReleaseInput, ResourcePolicy } from "../protocol/policy-seam.ts";
import { isObject, memberAt } from "../protocol/shape.ts";

const affirmingRule = "plugin resource; at least one submod; every submod has ear.status affirming";
const developmentRule = `${affirmingRule}; or cpu0 is the sample TEE`;

/**
 * What governs a release when no policy is set: every device of the guest must be affirming.
 *
 * Trustee's default only excludes the sample TEE and so releases to a contraindicated guest; this one fails closed.
 */
export function affirmingPolicy(): ResourcePolicy {
  return { id: "built-in:affirming", digest: digestOfText(affirmingRule), evaluate: affirming };
}

/** The default of the development mode: as {@link affirmingPolicy}, and whatever the sample TEE asks for. */
export function developmentPolicy(): ResourcePolicy {
  return {
    id: "built-in:development",
    digest: digestOfText(developmentRule),
    evaluate: (input) => {
      const sample = memberAt(input.claims, "submods", "cpu0", "ear.veraison.annotated-evidence", "sample");
      return input.plugin === "resource" && sample !== undefined
        ? { allow: true, reasons: ["development mode releases to the sample TEE, which proves nothing"] }
        : affirming(input);
    },
  };
}

function affirming(input: ReleaseInput): PolicyDecision {
  if (input.plugin !== "resource")
    return { allow: false, reasons: [`the default policy covers no plugin ${JSON.stringify(input.plugin)}`] };
  const submods = input.claims["submods"];
  if (!isObject(submods) || Object.keys(submods).length === 0) return { allow: false, reasons: ["the token names no attested device"] };
  const reasons: string[] = [];
  for (const [name, submod] of Object.entries(submods)) {
    const status = memberAt(submod, "ear.status");
    if (status === "affirming") continue;
    const details = memberAt(submod, "ociseal.reasons");
    const why = Array.isArray(details) ? details.map(String).join("; ") : "";
    reasons.push(`${name} is ${typeof status === "string" ? status : "without a status"}, not affirming${why === "" ? "" : `: ${why}`}`);
  }
  return { allow: reasons.length === 0, reasons };
}

/** `sha256:` of a policy's text. */
export function digestOfText(text: string): string {
  return `sha256:${createHash("sha256").update(text, "utf8").digest("hex")}`;
}
