// Judge evidence offline: whatever is wrong with it comes back as findings.
import { verifyEvidence } from "ociseal/attestation";

const unchecked = { kind: "unchecked", reason: "an example" } as const;
const result = verifyEvidence({
  evidence: Buffer.from("not a quote"),
  at: new Date("2026-11-24T12:00:00Z"),
  reportData: unchecked,
  initData: unchecked,
});
console.log(
  result.verdict,
  result.findings.map(({ code }) => code),
);
