import { matchesPath } from "../../policy/index.ts";

/** What an administrator can be allowed to do. */
export const adminActions = [
  "resource:create",
  "resource:write",
  "resource:read",
  "resource:confirm",
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
 * A path is a resource path, a policy id (`policy:write` needs the id and the resources it governs) or a reference value's name; `*` stands for any text within one segment, `**`
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

/** Rights that carry others in them. */
const impliedBy: Readonly<Partial<Record<AdminAction, readonly AdminAction[]>>> = {
  "resource:create": ["resource:write"],
  "resource:confirm": ["resource:create", "resource:write", "resource:read"],
};

/** Whether grants allow an action on a path. */
export function allows(grants: readonly Grant[], action: AdminAction, path: string): boolean {
  return grants.some((grant) => carries(grant, action) && grant.paths.some((pattern) => matchesPath(pattern, path)));
}

/** Whether grants allow everything that another set of grants does. A pattern is within one that is equal, wider by `**`, or matches it as plain text. */
export function covers(grants: readonly Grant[], wanted: readonly Grant[]): boolean {
  return wanted.every(({ actions, paths }) =>
    actions.every((action) =>
      paths.every((path) =>
        grants.some(
          (grant) =>
            (action === "*" ? grant.actions.includes("*") : carries(grant, action)) &&
            grant.paths.some((pattern) => isWithin(path, pattern)),
        ),
      ),
    ),
  );
}

function isWithin(path: string, pattern: string): boolean {
  if (pattern === "**" || pattern === path) return true;
  if (!path.includes("*")) return matchesPath(pattern, path);
  const folder = pattern.endsWith("/**") ? pattern.slice(0, -2) : "*";
  return !folder.includes("*") && path.startsWith(folder) && path.length > folder.length;
}

/** Whether grants allow an action on any path at all. */
export function allowsSomewhere(grants: readonly Grant[], action: AdminAction): boolean {
  return grants.some((grant) => carries(grant, action) && grant.paths.length > 0);
}

function carries({ actions }: Grant, action: AdminAction): boolean {
  return actions.includes("*") || actions.includes(action) || (impliedBy[action] ?? []).some((other) => actions.includes(other));
}
