/** What an administrator can be allowed to do. */
export const adminActions = [
  "resource:create",
  "resource:write",
  "resource:read",
  "resource:list",
  "resource:delete",
  "key:rotate",
  "key:state",
  "key:destroy",
  "key:rewrap",
  "policy:read",
  "policy:write",
  "reference:read",
  "reference:write",
  "audit:read",
  "metrics:read",
  "token:create",
  "system:manage",
] as const;

export type AdminAction = (typeof adminActions)[number];

/**
 * A right: some actions on some paths.
 *
 * A path is a resource path, a policy id or a reference value's name; `*` stands for any text within one segment, `**`
 * as the last segment for everything below. Actions without an object (listing all, audit) need a grant on `**`.
 */
export interface Grant {
  readonly actions: readonly (AdminAction | "*")[];
  readonly paths: readonly string[];
}

/** The roles that exist without configuration. */
export const builtInRoles: Readonly<Record<string, readonly Grant[]>> = {
  admin: [{ actions: ["*"], paths: ["**"] }],
};

/** Whether grants allow an action on a path. */
export function allows(grants: readonly Grant[], action: AdminAction, path: string): boolean {
  return grants.some(
    ({ actions, paths }) => (actions.includes("*") || actions.includes(action)) && paths.some((pattern) => matchesPath(pattern, path)),
  );
}

/** Whether a pattern matches a whole path. */
export function matchesPath(pattern: string, path: string): boolean {
  if (path === "") return pattern === "**";
  const patterns = pattern.split("/");
  const segments = path.split("/");
  const open = patterns.at(-1) === "**";
  if (open ? segments.length < patterns.length : segments.length !== patterns.length) return false;
  return patterns.every((part, index) => (open && index === patterns.length - 1) || matchesSegment(part, segments[index] ?? ""));
}

function matchesSegment(pattern: string, segment: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return pattern === segment;
  if (!segment.startsWith(first)) return false;
  let position = first.length;
  for (const [index, part] of rest.entries()) {
    const last = index === rest.length - 1;
    const found = last ? segment.length - part.length : segment.indexOf(part, position);
    if (found < position || !segment.startsWith(part, found)) return false;
    position = found + part.length;
  }
  return true;
}
