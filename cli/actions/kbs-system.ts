import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { writeWholeFile } from "../files.ts";
import { withAdmin, type KbsOptions } from "../kbs-connection.ts";
import type { Shell } from "../shell.ts";

export const systemShow: Action<KbsOptions> = async (shell, _args, options) => {
  const system = await withAdmin(shell, options, ({ system }) => system.describe({ signal: shell.signal }));
  await shell.result(JSON.stringify(system, undefined, 2), system);
};

interface RotateOptions extends KbsOptions {
  readonly purpose: string;
  readonly revokeFormer?: boolean;
  readonly adminTokenOut?: string;
  readonly dryRun?: boolean;
}

export const rotateSigningKey: Action<RotateOptions> = async (shell, _args, options) => {
  const { purpose, revokeFormer = false, adminTokenOut, dryRun = false } = options;
  if (purpose !== "attestation" && purpose !== "admin") throw usage(`--purpose takes attestation or admin, not ${purpose}`);
  if (revokeFormer && purpose === "admin" && adminTokenOut === undefined) {
    throw usage(
      "revoking the former admin keys ends every token that this service issued, your own too",
      "give --admin-token-out FILE for a new one, good for an hour",
    );
  }
  if (dryRun) {
    const fate = revokeFormer
      ? "every token signed before would be refused at once"
      : "tokens signed before would live on until they expire";
    return shell.result(`would make a new ${purpose} signing key; ${fate}`, { purpose, former: revokeFormer ? "revoke" : "keep", dryRun });
  }
  const { kid, token } = await withAdmin(shell, options, ({ system }) =>
    system.rotateSigningKey({ purpose, former: revokeFormer ? "revoke" : "keep", signal: shell.signal }),
  );
  if (token !== undefined && adminTokenOut !== undefined) await writeWholeFile(adminTokenOut, `${token}\n`, { mode: 0o600 });
  await shell.result(`${purpose} tokens are signed with ${kid} from now on`, { purpose, kid, former: revokeFormer ? "revoke" : "keep" });
};

type ResealOptions = KbsOptions & { readonly dryRun?: boolean };

export const rotateEncryptionKey: Action<ResealOptions> = async (shell, _args, options) => {
  if (options.dryRun === true) return plan(shell, options, "would make a new key-encryption key and seal every record under it");
  const counts = await withAdmin(shell, options, ({ system }) => system.rotateEncryptionKey({ signal: shell.signal }));
  await shell.result(`${counts.resealed} records are sealed under a new key; run reseal in an hour to forget the former one`, counts);
};

export const rotateRootKey: Action<ResealOptions> = async (shell, _args, options) => {
  if (options.dryRun === true)
    return plan(shell, options, "would wrap the key-encryption keys under the first root key of the configuration");
  const outcome = await withAdmin(shell, options, ({ system }) => system.rotateRootKey({ signal: shell.signal }));
  await shell.result(
    `${outcome.rewrapped} key-encryption keys were wrapped under the root key ${outcome.root}; it opens all of them now`,
    outcome,
  );
};

export const reseal: Action<ResealOptions> = async (shell, _args, options) => {
  if (options.dryRun === true) return plan(shell, options, "would seal every record under the newest key, and forget the unused ones");
  const counts = await withAdmin(shell, options, ({ system }) => system.reseal({ signal: shell.signal }));
  await shell.result(`${counts.resealed} records were sealed again, ${counts.dropped} former keys forgotten`, counts);
};

/** What would be done, and the keys as they are: the service is asked, so that a wrong address or token shows now. */
async function plan(shell: Shell, options: ResealOptions, what: string): Promise<void> {
  const system = await withAdmin(shell, options, (admin) => admin.system.describe({ signal: shell.signal }));
  await shell.result(`${what}\n${JSON.stringify(system, undefined, 2)}`, { system, dryRun: true });
}
