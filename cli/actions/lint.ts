import { lintImage, type LintProfile } from "../../src/pipeline/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import { printable } from "../table.ts";

export const lint: Action<RegistryFlags & { readonly profile: string }> = async (shell, [name = ""], options) => {
  const { profile } = options;
  if (profile !== "coco" && profile !== "ocicrypt") throw usage(`--profile takes coco or ocicrypt, not ${profile}`);
  const findings = await withImages(shell, options, async (images) => {
    const { image, root } = await images.resolve(name);
    return lintImage({ store: image.store, root, profile: profile satisfies LintProfile }, { signal: shell.signal });
  });
  const lines = findings.map(({ image, position, message, hint }) => printable(`${image} layer ${position}: ${message}; ${hint}`));
  await shell.result(lines.length === 0 ? `a stock ${profile} reader opens ${name}` : lines.join("\n"), {
    profile,
    opens: findings.length === 0,
    findings,
  });
  if (findings.length > 0) shell.exitWith("integrity");
};
