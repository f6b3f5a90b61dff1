import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describeCause } from "../../errors/index.ts";
import { parseCertTable } from "../amd/cert-table.ts";
import { AttestationError } from "../errors.ts";
import { emptyBundle, maxBundleSize, type CollateralBundle } from "./bundle.ts";
import { importCollateral } from "./import.ts";
import { readLooseFiles, vcekOf, type LooseFile } from "./loose-files.ts";
import { mergeBundles } from "./merge.ts";

const maxFiles = 100_000;

/**
 * Reads collateral from a file or a folder: `.json` in any form that {@link importCollateral} knows, vendor answers saved as
 * files (see {@link readLooseFiles}), and Trustee's KDS store (`vcek/{hwid}/…_vcek.der`). Throws `ERR_COLLATERAL_MALFORMED`.
 */
export async function loadCollateral(path: string, now: Date): Promise<CollateralBundle> {
  const names = await filesBelow(path);
  const bundles: CollateralBundle[] = [];
  const loose: LooseFile[] = [];
  for (const name of names.toSorted()) {
    const bytes = await readBounded(name);
    if (isBundleForm(bytes)) bundles.push(importCollateral(bytes, { now, from: name }));
    else loose.push({ name, bytes });
  }
  if (names.length === 1 && bundles.length === 0) return readOneFile(path, loose, now);
  return mergeBundles(readLooseFiles(loose, now), ...bundles);
}

/** A single file that is nothing we know is an error; in a folder such files are skipped. */
function readOneFile(path: string, loose: readonly LooseFile[], now: Date): CollateralBundle {
  const bundle = readLooseFiles(loose, now);
  const empty = emptyBundle(bundle.createdAt);
  if (JSON.stringify(bundle) === JSON.stringify(empty)) {
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", {
      message: `the file ${path} holds no collateral of a known form`,
      hint: "give a bundle, dcap-qvl collateral, a vendor's answer, or a folder of them",
    });
  }
  return bundle;
}

/** JSON that is not a bare vendor answer. Which form it is, {@link importCollateral} decides. */
function isBundleForm(bytes: Buffer): boolean {
  const start = bytes.subarray(0, 4096).toString("latin1").trimStart();
  return start.startsWith("{") && !/^\{\s*"(?:tcbInfo|enclaveIdentity|signature)"/.test(start);
}

async function filesBelow(path: string): Promise<readonly string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
  } catch (cause) {
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", {
      message: `the collateral ${path} cannot be read (${describeCause(cause)})`,
      cause,
    });
  }
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  if (names.length > maxFiles)
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `the folder ${path} has more than ${maxFiles} files` });
  return names;
}

/** The endorsement keys inside a host's certificate table, as a bundle. */
export function importCertTable(table: Uint8Array, now: Date): CollateralBundle {
  const { vek } = parseCertTable(table);
  const item = vek === undefined ? undefined : vcekOf(vek, "certificate table", now);
  return { ...emptyBundle(now.toISOString()), vceks: item === undefined ? [] : [item] };
}

async function readBounded(path: string): Promise<Buffer> {
  const { size } = await stat(path);
  if (size > maxBundleSize)
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `the file ${path} has ${size} bytes, more than ${maxBundleSize}` });
  return readFile(path);
}
