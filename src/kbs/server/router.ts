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

/**
 * Finds routes by exact segments. The path is taken as it was sent: nothing is decoded or normalised, so a percent sign
 * or an empty or dotted segment can only fail to match.
 */
export class Router {
  readonly #routes: readonly { readonly route: Route; readonly segments: readonly string[] }[];

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map((route) => ({ route, segments: route.pattern.split("/") }));
  }

  /** Throws refusals `route-not-found` and `method-not-allowed`. */
  match(method: string, path: string): Match {
    const segments = path.split("/");
    let known = false;
    for (const candidate of this.#routes) {
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

function matchSegments(pattern: readonly string[], segments: readonly string[]): Parameters | undefined {
  const parameters: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
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
