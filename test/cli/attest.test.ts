import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ociseal, projectFolder } from "./run.ts";

const corpus = join(projectFolder, "../shared/evidence");

interface Case {
  readonly id: string;
  readonly tee: string;
  readonly files: Readonly<Record<string, string>>;
  readonly trust: string;
  readonly verifyAt: string;
  readonly expect: {
    readonly outcome: string;
    readonly tcbStatus?: string | null;
    readonly advisoryIds?: readonly string[];
    readonly debug?: boolean;
    readonly defaultPolicy?: string;
  };
}

const present = existsSync(join(corpus, "manifest.json"));
if (!present) {
  const message = "SKIPPED: the evidence corpus is not beside this checkout (../shared/evidence)";
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
}

describe.skipIf(!present)("attest verify on the corpus", () => {
  const { cases, trustAnchors } = present
    ? (JSON.parse(readFileSync(join(corpus, "manifest.json"), "utf8")) as { cases: readonly Case[]; trustAnchors: unknown })
    : { cases: [], trustAnchors: undefined };

  it("answers every case in one batch as expected, and exits with 8 because some are refused", async () => {
    expect(cases.length).toBeGreaterThan(20);
    expect(trustAnchors).toBeTruthy();
    const lines = cases.map(({ tee, files, trust, verifyAt }) => {
      const path = (name: string): string | undefined => (files[name] === undefined ? undefined : join(corpus, files[name]));
      return JSON.stringify({
        evidence: path("quote") ?? path("report"),
        tee,
        at: verifyAt,
        ...optional("collateral", path("collateral")),
        ...optional("vek", path("vek")),
        ...optional("ask", path("ask")),
        ...optional("ark", path("ark")),
        ...optional("crl", path("crl")),
        ...optional("event-log", path("eventLog") ?? path("ccel")),
        ...(trust.endsWith("production") ? {} : { "trust-root": rootsOf(trust) }),
      });
    });
    const outcome = await ociseal(["attest", "verify", "--batch"], { cwd: projectFolder, input: `${lines.join("\n")}\n` });
    const answers = outcome.stdout
      .trim()
      .split("\n")
      .map(
        (line) =>
          JSON.parse(line) as {
            verdict: string;
            tcbStatus: string | null;
            advisoryIds: string[];
            policy: { verdict: string };
            claims: { debug?: boolean };
          },
      );
    const seen = answers.map(({ verdict, tcbStatus, advisoryIds, policy, claims }, i) => ({
      debug: verdict === "accept" ? claims.debug : undefined,
      id: cases[i]?.id,
      verdict,
      tcbStatus,
      // Where the corpus names none it says nothing about them.
      advisoryIds: cases[i]?.expect.advisoryIds === undefined ? undefined : advisoryIds.toSorted(),
      policy: policy?.verdict,
    }));
    const wanted = cases.map(({ id, expect: e }) => ({
      id,
      verdict: e.outcome,
      tcbStatus: e.outcome === "accept" ? (e.tcbStatus ?? null) : null,
      advisoryIds: e.advisoryIds?.toSorted(),
      debug: e.outcome === "accept" ? e.debug : undefined,
      policy: e.outcome === "accept" ? e.defaultPolicy : "reject",
    }));
    expect(seen).toEqual(wanted);
    expect(outcome.status).toBe(8);
  });
});

function optional(name: string, value: string | undefined): Readonly<Record<string, string>> {
  return value === undefined ? {} : { [name]: value };
}

/** The synthetic vendors' roots. */
function rootsOf(trust: string): readonly string[] {
  return trust.includes("amd") || trust.includes("snp")
    ? ["milan", "genoa", "turin"].map((product) => join(corpus, `synthetic/snp-ca/${product}-ark.der`))
    : [join(corpus, "synthetic/dcap-root.pem")];
}
