import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { describeCause } from "../../errors/index.ts";
import { amdProducts } from "../amd/products.ts";
import { parseCertTable } from "../amd/cert-table.ts";
import { parseEndorsementKey } from "../amd/vek.ts";
import { AttestationError } from "../errors.ts";
import { newFindingSink } from "../refuse.ts";
import { emptyBundle, maxBundleSize, type CollateralBundle, type VcekItem } from "./bundle.ts";
import { importCollateral } from "./import.ts";
import { mergeBundles } from "./merge.ts";

const maxFiles = 100_000;

/**
 * Reads collateral from a file or a folder: every `.json` in it (any form that {@link importCollateral} knows) and every
 * VCEK of a Trustee KDS store (`vcek/{hwid}/bl02_tee00_…_vcek.der`). Throws `ERR_COLLATERAL_MALFORMED`.
 */
export async function loadCollateral(path: string, now: Date): Promise<CollateralBundle> {
  let isFolder: boolean;
  try {
    isFolder = (await stat(path)).isDirectory();
  } catch (cause) {
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", {
      message: `the collateral ${path} cannot be read (${describeCause(cause)})`,
      cause,
    });
  }
  if (!isFolder) return importCollateral(await readBounded(path), { now, from: path });
  const names = (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  if (names.length > maxFiles)
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `the folder ${path} has more than ${maxFiles} files` });
  const bundles: CollateralBundle[] = [];
  const vceks: VcekItem[] = [];
  for (const name of names.toSorted()) {
    if (name.endsWith(".json")) bundles.push(importCollateral(await readBounded(name), { now, from: name }));
    else if (name.endsWith(".der")) vceks.push(...vcekOf(await readBounded(name), relative(path, name), now));
  }
  return mergeBundles({ ...emptyBundle(now.toISOString()), vceks }, ...bundles);
}

/** The endorsement keys inside a host's certificate table, as a bundle. */
export function importCertTable(table: Uint8Array, now: Date): CollateralBundle {
  const { vek } = parseCertTable(table);
  return { ...emptyBundle(now.toISOString()), vceks: vek === undefined ? [] : vcekOf(vek, "certificate table", now) };
}

/** A store names its files by TCB and its folders by chip; the certificate itself says both, so names are not believed. */
function vcekOf(der: Uint8Array, from: string, now: Date): readonly VcekItem[] {
  const key = newFindingSink().attempt(() => parseEndorsementKey(der, from));
  if (key?.hwid === undefined) return [];
  const word = Buffer.alloc(8);
  const { tcb, product } = key;
  word.set(product === "Turin" ? [tcb.fmc ?? 0, tcb.bl, tcb.tee, tcb.snp] : [tcb.bl, tcb.tee]);
  if (product !== "Turin") word[6] = tcb.snp;
  word[7] = tcb.ucode;
  return amdProducts.includes(product)
    ? [{ product, hwid: key.hwid.toString("hex"), tcb: word.toString("hex"), der, fetchedAt: now.toISOString(), from }]
    : [];
}

async function readBounded(path: string): Promise<Buffer> {
  const { size } = await stat(path);
  if (size > maxBundleSize)
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `the file ${path} has ${size} bytes, more than ${maxBundleSize}` });
  return readFile(path);
}
