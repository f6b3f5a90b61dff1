import type { Call, Reply } from "./call.ts";
import { Refusal } from "./refusal.ts";

export type Parameters = Readonly<Record<string, string>>;
export type Handler = (call: Call, parameters: Parameters) => Promise<Reply> | Reply;

/** One route: `:name` in the pattern takes one whole segment, `*name` at its end the rest of the path. */
export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly pattern: string;
  /** Label for metrics: bounded, whatever strangers ask for. */
  readonly name: string;
  readonly handle: Handler;
}

export interface Match {
  readonly route: Route;
  readonly parameters: Parameters;
}

interface Candidate {
  readonly route: Route;
  readonly segments: readonly string[];
}

/** What follows `/kbs/v0` and `/api/v1`. */
const tellingSegment = 3;

/**
 * Finds routes by exact segments. The path is taken as it was sent: nothing is decoded or normalised, so a percent sign
 * or an empty or dotted segment can only fail to match.
 */
export class Router {
  /** The routes that a path with this telling segment can match, in the order in which they were given. */
  readonly #told = new Map<string, readonly Candidate[]>();
  /** Those that any path can match. */
  readonly #others: readonly Candidate[];

  constructor(routes: readonly Route[]) {
    const candidates = routes.map((route) => ({ route, segments: route.pattern.split("/") }));
    const keys = candidates.map(({ segments }) => keyOf(segments));
    for (const key of keys) {
      if (key !== undefined)
        this.#told.set(
          key,
          candidates.filter((_, index) => keys[index] === key || keys[index] === undefined),
        );
    }
    this.#others = candidates.filter((_, index) => keys[index] === undefined);
  }

  /** Throws refusals `route-not-found` and `method-not-allowed`. */
  match(method: string, path: string): Match {
    const segments = path.split("/");
    let known = false;
    const told = this.#told.get(segments[tellingSegment] ?? "");
    const candidates = told === undefined ? this.#others : told;
    for (const candidate of candidates) {
      const parameters = matchSegments(candidate.segments, segments);
      if (parameters === undefined) continue;
      known = true;
      if (candidate.route.method === method) return { route: candidate.route, parameters };
    }
    throw known
      ? new Refusal("method-not-allowed", `${method.slice(0, 20)} is not supported here`)
      : new Refusal("route-not-found", "no such path");
  }
}

/** The telling segment of a pattern; `undefined` when a parameter stands there or before it. */
function keyOf(pattern: readonly string[]): string | undefined {
  if (pattern.slice(0, tellingSegment + 1).some((part) => part.startsWith(":") || part.startsWith("*"))) return undefined;
  return pattern[tellingSegment] ?? "";
}

function matchSegments(pattern: readonly string[], segments: readonly string[]): Parameters | undefined {
  const parameters: Record<string, string> = {};
  for (let index = 0; index < pattern.length; index += 1) {
    const part = pattern[index] ?? "";
    if (part.startsWith("*")) {
      parameters[part.slice(1)] = segments.slice(index).join("/");
      return segments.length > index ? parameters : undefined;
    }
    const segment = segments[index];
    if (segment === undefined) return undefined;
    if (part.startsWith(":")) parameters[part.slice(1)] = segment;
    else if (part !== segment) return undefined;
  }
  return segments.length === pattern.length ? parameters : undefined;
}
