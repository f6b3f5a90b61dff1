import { adminActions, type AdminAction, type Grant } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { requireNumber } from "../images.ts";
import { withAdmin, type KbsOptions } from "../kbs-connection.ts";

interface TokenOptions extends KbsOptions {
  readonly subject: string;
  readonly role: string;
  readonly grant?: readonly string[];
  readonly lifetime?: number;
}

export const issueToken: Action<TokenOptions> = async (shell, _args, options) => {
  requireNumber("--lifetime", options.lifetime, 1);
  const { subject, role, lifetime } = options;
  const grants = options.grant?.map(grantOf);
  const token = await withAdmin(shell, options, ({ system }) =>
    system.issueToken({ subject, role, grants, lifetimeSeconds: lifetime, signal: shell.signal }),
  );
  await shell.result(token, { token });
};

/** `resource:create,resource:confirm:default/image-kek/**`: actions, then the path pattern behind the last colon. */
function grantOf(text: string): Grant {
  const at = text.lastIndexOf(":");
  const actions = text.slice(0, Math.max(at, 0)).split(",");
  const unknown = actions.filter((action) => action !== "*" && !adminActions.some((known) => known === action));
  if (at < 1 || unknown.length > 0)
    throw usage(`not a grant: ${text.slice(0, 200)}`, `give ACTIONS:PATHS; actions are ${adminActions.join(", ")}, or *`);
  return { actions: actions as (AdminAction | "*")[], paths: [text.slice(at + 1)] };
}
