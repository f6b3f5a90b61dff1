import { ToolError } from "../errors/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { fetchBytes } from "./content.ts";
import { mapLimited, type Candidate, type Discovery } from "./discover.ts";
import { checkLegacyMediaType, evaluateBundle, evaluateLegacy, type EvaluationRequest } from "./evaluate.ts";
import { describeFailure } from "./failure.ts";
import { signatureLimits } from "./formats.ts";
import { Rejection, type CountedFinding, type FailedCheck, type Finding } from "./report.ts";

export interface Judgement {
  readonly findings: readonly Finding[];
  /** What the store threw over candidates; matters only when none counts. */
  readonly failures: readonly unknown[];
}

/** Judges the same candidates by one requirement after another, reading each once. */
export type Judge = (evaluation: EvaluationRequest) => Promise<Judgement>;

/** @param found - what {@link discover} found in the store. */
export function judgeOf(store: ContentReader, found: Discovery, options: CallOptions): Judge {
  const read = boundedReader(store, options);
  return async (evaluation) => {
    const failures: unknown[] = [];
    const judged = await mapLimited(found.candidates, signatureLimits.concurrency, async (candidate): Promise<Finding> => {
      try {
        return await evaluate(candidate, read, evaluation);
      } catch (error) {
        const { kind: format, location } = candidate;
        if (error instanceof Rejection) return { verdict: "rejected", format, location, check: error.check, reason: error.message };
        const { reason, failure } = describeFailure(location, error);
        if (failure !== undefined) failures.push(failure);
        return { verdict: "rejected", format, location, check: checkOf(error), reason };
      }
    });
    const unreadable = found.unreadable.map(({ location, reason, failure }): Finding => {
      if (failure !== undefined) failures.push(failure);
      return { verdict: "rejected", format: "unknown", location, check: "unreadable", reason };
    });
    return { findings: [...judged, ...unreadable], failures };
  };
}

async function evaluate(candidate: Candidate, read: CandidateReader, evaluation: EvaluationRequest): Promise<CountedFinding> {
  switch (candidate.kind) {
    case "legacy":
      checkLegacyMediaType(candidate);
      return await evaluateLegacy(candidate, await read(candidate), evaluation);
    case "bundle":
      return await evaluateBundle(candidate, await read(candidate), evaluation);
  }
}

type CandidateReader = (candidate: Candidate) => Promise<Buffer>;

/** Reads each payload and bundle once, and no more of all together than the limit: a stranger may have put thousands there. */
function boundedReader(store: ContentReader, options: CallOptions): CandidateReader {
  const contents = new Map<string, Promise<Buffer>>();
  let budget: number = signatureLimits.maxTotalBytes;
  return async (candidate) => {
    const target = candidate.kind === "legacy" ? candidate.payload : candidate.bundleLayer;
    const known = contents.get(target.digest);
    if (known !== undefined) return await known;
    const max = candidate.kind === "legacy" ? signatureLimits.maxPayloadBytes : signatureLimits.maxBundleBytes;
    if (target.size > max) throw new Rejection("limit", `it has ${target.size} bytes (limit ${max})`);
    if (target.size > budget) {
      throw new Rejection("limit", `the signatures of this image together have more than ${signatureLimits.maxTotalBytes} bytes`);
    }
    budget -= target.size;
    const bytes = fetchBytes(store, target, max, options);
    contents.set(target.digest, bytes);
    return await bytes;
  };
}

function checkOf(error: unknown): FailedCheck {
  if (!(error instanceof ToolError)) return "unreadable";
  return error.code === "ERR_SIGNATURE_MALFORMED" || error.code === "ERR_JSON_MALFORMED" ? "payload" : "unreadable";
}
