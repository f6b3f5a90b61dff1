/** What a token is asked for: `repository:library/alpine:pull,push`. Source: distribution, "Token Scope Documentation". */
export type Action = "pull" | "push" | "delete";

/** Actions by repository. */
export type Scopes = ReadonlyMap<string, ReadonlySet<Action>>;

export function scopesOf(repository: string, ...actions: readonly Action[]): Scopes {
  return new Map([[repository, new Set(actions)]]);
}

export function mergeScopes(...all: readonly Scopes[]): Scopes {
  const merged = new Map<string, Set<Action>>();
  for (const scopes of all) {
    for (const [repository, actions] of scopes) {
      const known = merged.get(repository) ?? new Set<Action>();
      for (const action of actions) known.add(action);
      merged.set(repository, known);
    }
  }
  return merged;
}

/**
 * Our scopes and the challenge's in one list, the challenge's first: some token services look at the first alone.
 * A repository named by both becomes one entry with the actions of both.
 */
export function mergeChallengeScope(challenged: string | undefined, wanted: Scopes): readonly string[] {
  const rest = new Map([...wanted].map(([repository, actions]) => [repository, new Set<string>(actions)]));
  const merged: string[] = [];
  const texts = (challenged ?? "").split(" ").filter((text) => text !== "");
  for (const text of texts.slice(0, 16)) {
    const match = /^repository:([^:]+(?::\d+\/[^:]+)?):([a-z*]+(?:,[a-z*]+)*)$/.exec(text);
    const own = match === null ? undefined : rest.get(match[1] ?? "");
    if (match === null || own === undefined) {
      merged.push(text);
      continue;
    }
    rest.delete(match[1] ?? "");
    merged.push(`repository:${match[1]}:${[...new Set([...(match[2] ?? "").split(","), ...own])].sort().join(",")}`);
  }
  for (const [repository, actions] of [...rest].sort(([left], [right]) => (left < right ? -1 : 1)))
    merged.push(`repository:${repository}:${[...actions].sort().join(",")}`);
  return [...new Set(merged)];
}
