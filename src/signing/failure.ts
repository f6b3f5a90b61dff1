import { describeCause, InternalError, ToolError } from "../errors/index.ts";

/** Something that lies where signatures lie and cannot be read as one. */
export interface Unreadable {
  readonly location: string;
  readonly reason: string;
  /** What was thrown where the store failed, rather than the content. */
  readonly failure: unknown;
}

/**
 * Turns what was thrown over one candidate into an entry of the report. Content that is wrong or missing is the
 * candidate's fault. Anything else (a registry that fails, an interruption) is kept as a failure: it is thrown in the
 * end unless another signature counts, so that an outage never reads as "not signed".
 */
export function describeFailure(location: string, error: unknown): Unreadable {
  if (error instanceof InternalError || !(error instanceof ToolError)) throw error;
  switch (error.category) {
    case "interrupted":
    case "internal":
    case "usage":
      throw error;
    case "integrity":
    case "not-found":
      return { location, reason: describeCause(error), failure: undefined };
    case "unavailable":
    case "denied":
    case "no-key":
    case "attestation":
    case "io":
      return { location, reason: describeCause(error), failure: error };
  }
}
