import type { KeyView } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { requireNumber } from "../images.ts";
import { undefinedIfAbsent, withAdmin, type KbsOptions } from "../kbs-connection.ts";
import { formatTable } from "../table.ts";

function describe({ uri, versions, releasedVersion, rotationDue, rotationDueAt }: KeyView, width: number | undefined): string {
  const rows = versions.map(({ version, state, createdAt, createdBy }) => [
    `${version}${version === releasedVersion ? " *" : ""}`,
    state,
    createdAt,
    createdBy,
  ]);
  const due =
    rotationDueAt === undefined ? "" : `\nrotation due ${rotationDueAt}${rotationDue ? " (overdue: ociseal kbs key rotate)" : ""}`;
  return `${uri}\n${formatTable(["VERSION", "STATE", "CREATED", "BY"], rows, width)}${due}`;
}

export const keyCreate: Action<KbsOptions & { readonly rotationDays?: number; readonly dryRun?: boolean }> = async (
  shell,
  [uri = ""],
  options,
) => {
  requireNumber("--rotation-days", options.rotationDays, 1);
  if (options.dryRun === true) {
    const existing = await withAdmin(shell, options, ({ keys }) => undefinedIfAbsent(keys.describe(uri, { signal: shell.signal })));
    if (existing !== undefined) throw usage(`${uri} exists already`, "ociseal kbs key rotate adds a version to it");
    return shell.result(`would create ${uri}`, { uri, dryRun: true });
  }
  const key = await withAdmin(shell, options, ({ keys }) => keys.create(uri, { rotationDays: options.rotationDays, signal: shell.signal }));
  await shell.result(describe(key, shell.stdout.columns), key);
};

export const keyShow: Action<KbsOptions> = async (shell, [uri = ""], options) => {
  const key = await withAdmin(shell, options, ({ keys }) => keys.describe(uri, { signal: shell.signal }));
  await shell.result(describe(key, shell.stdout.columns), key);
};

export const keyList: Action<KbsOptions & { readonly prefix?: string }> = async (shell, _args, options) => {
  const all = await withAdmin(shell, options, async ({ keys }) => {
    const found: KeyView[] = [];
    let after: string | undefined;
    do {
      const page = await keys.list({ prefix: options.prefix, after, signal: shell.signal });
      found.push(...page.keys);
      after = page.next;
    } while (after !== undefined);
    return found;
  });
  const rows = all.map(({ uri, kind, currentVersion, createdAt, rotationDue }) => [
    uri,
    kind,
    String(currentVersion),
    createdAt,
    rotationDue ? "due" : "",
  ]);
  await shell.result(formatTable(["KEY", "KIND", "VERSION", "CREATED", "ROTATION"], rows, shell.stdout.columns), { keys: all });
};

export const keyRotate: Action<KbsOptions & { readonly dryRun?: boolean }> = async (shell, [uri = ""], options) => {
  const key = await withAdmin(shell, options, ({ keys }) =>
    options.dryRun === true ? keys.describe(uri, { signal: shell.signal }) : keys.rotate(uri, { signal: shell.signal }),
  );
  await shell.result(
    options.dryRun === true ? `would add version ${key.currentVersion + 1} to ${uri}` : describe(key, shell.stdout.columns),
    { ...key, dryRun: options.dryRun === true },
  );
};

type StateOptions = KbsOptions & { readonly keyVersion?: number; readonly dryRun?: boolean };

function stateAction(state: "enabled" | "disabled" | "destroyed"): Action<StateOptions> {
  return async (shell, [uri = ""], options) => {
    requireNumber("--key-version", options.keyVersion, 1);
    const key = await withAdmin(shell, options, ({ keys }) =>
      options.dryRun === true
        ? keys.describe(uri, { signal: shell.signal })
        : keys.setState(uri, { state, version: options.keyVersion, signal: shell.signal }),
    );
    const what = options.keyVersion === undefined ? "every version" : `version ${options.keyVersion}`;
    await shell.result(options.dryRun === true ? `${what} of ${uri} would be ${state}` : describe(key, shell.stdout.columns), {
      ...key,
      dryRun: options.dryRun === true,
    });
  };
}

export const enable = stateAction("enabled");
export const disable = stateAction("disabled");
export const destroy = stateAction("destroyed");

export const keyRewrap: Action<KbsOptions> = async (shell, [uri = "", file = ""], options) => {
  const packet = await readSmallFile(file, "packet");
  const {
    packet: rewrapped,
    fromVersion,
    toVersion,
  } = await withAdmin(shell, options, ({ keys }) => keys.rewrap(uri, packet, { signal: shell.signal }));
  await shell.result(rewrapped.toString("utf8"), { uri, fromVersion, toVersion, packet: rewrapped.toString("base64") });
};
