import {
  describeBundle,
  formatBundle,
  loadCollateral,
  mergeBundles,
  recogniseEvidence,
  vendorCollateral,
} from "../../src/attestation/index.ts";
import type { Action } from "../command.ts";
import { readSmallFile, writeWholeFile } from "../files.ts";
import { formatTable } from "../table.ts";

export const collateralFetch: Action<{ readonly out: string; readonly pccs?: string; readonly kds?: string }> = async (
  shell,
  [file = ""],
  { out, pccs, kds },
) => {
  const evidence = recogniseEvidence(await readSmallFile(file, "evidence", 16 << 20));
  const source = vendorCollateral({ intelService: pccs, amdService: kds });
  const bundle = await source.find(evidence, { now: new Date(), signal: shell.signal });
  await writeWholeFile(out, formatBundle(bundle));
  await shell.result(`collateral is in ${out}`, { out, ...describeBundle(bundle, new Date()) });
};

export const collateralImport: Action<{ readonly out: string }> = async (shell, paths, { out }) => {
  const bundles = await Promise.all(paths.map((path) => loadCollateral(path, new Date())));
  const [first, ...rest] = bundles;
  if (first === undefined) return;
  const bundle = mergeBundles(first, ...rest);
  await writeWholeFile(out, formatBundle(bundle));
  await shell.result(`collateral is in ${out}`, { out, ...describeBundle(bundle, new Date()) });
};

export const collateralShow: Action<object> = async (shell, [path = ""]) => {
  const description = describeBundle(await loadCollateral(path, new Date()), new Date());
  const rows = description.rows.map(({ item, state, until, daysLeft, problem }) => [
    item,
    state,
    until ?? "",
    String(daysLeft ?? ""),
    problem ?? "",
  ]);
  await shell.result(formatTable(["ITEM", "STATE", "UNTIL", "DAYS", "PROBLEM"], rows, shell.stdout.columns), description);
};
