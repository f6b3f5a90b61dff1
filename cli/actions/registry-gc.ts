import { collectStoredGarbage } from "../../src/registry-server/index.ts";
import type { Action } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { counted, formatSize } from "../table.ts";

interface Options {
  readonly storage: string;
  readonly grace: string;
  readonly untagged?: boolean;
  readonly dryRun?: boolean;
}

/** One line for each repository that has something to say, and the sum. */
export const registryGc: Action<Options> = async (shell, _args, { storage, grace, untagged, dryRun }) => {
  const repositories = await collectStoredGarbage(storage, {
    graceMs: parseDuration("--grace", grace),
    untagged: untagged === true ? "remove" : "keep",
    mode: dryRun === true ? "report" : "remove",
  });
  const bytes = repositories.reduce((sum, garbage) => sum + garbage.bytes, 0);
  const young = repositories.reduce((sum, garbage) => sum + garbage.young, 0);
  const lines = repositories.flatMap(({ repository, manifests, blobs, bytes: size }) =>
    manifests.length + blobs.length === 0
      ? []
      : [`${repository}: ${counted(manifests.length, "manifest")} and ${counted(blobs.length, "blob")}, ${formatSize(size)}`],
  );
  for (const { repository, failure } of repositories) if (failure !== undefined) shell.warn(`${repository} was left as it is: ${failure}`);
  if (young > 0)
    shell.note(`${young} unreferenced objects are younger than ${grace} and stay; while nobody pushes, --grace 0s takes them too`);
  await shell.result([...lines, `${formatSize(bytes)} ${dryRun === true ? "would be" : "were"} removed`].join("\n"), {
    dryRun: dryRun === true,
    bytes,
    young,
    repositories,
  });
};
