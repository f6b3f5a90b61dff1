import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, lstatSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, resolve, sep } from "node:path";
import type { Digest } from "../bytes/index.ts";
import { GuestError } from "./errors.ts";
import type { PullReport } from "./pull-image.ts";
import { cleanedUp } from "./staging.ts";
import { storing } from "./storage-error.ts";

/** What a pull did, for whoever audits it later: plain JSON, no secrets, no times but the given one. */
export interface PullRecord {
  readonly version: 1;
  /** RFC 3339. */
  readonly time: string;
  readonly source: string;
  /** Digest of what the name pointed at: a manifest or an index. */
  readonly resolved: Digest;
  readonly manifest: Digest;
  readonly signature: {
    readonly basis: "signed" | "accepted-unsigned";
    /** Digest of the manifest or index that the signatures are of. */
    readonly of: Digest;
    readonly by: readonly { readonly location: string; readonly format: string; readonly signatory: unknown; readonly logged: unknown }[];
    readonly policy: unknown;
  };
  readonly layers: PullReport["layers"];
  readonly measurement: PullReport["measurement"];
  readonly result: PullReport["result"];
}

/** The record of a pull. */
export function recordOf(report: PullReport, now: Date): PullRecord {
  const { image, source, layers, measurement, result } = report;
  const { signature } = image;
  return {
    version: 1,
    time: now.toISOString(),
    source,
    resolved: image.target.digest,
    manifest: image.manifest.digest,
    signature: {
      basis: signature.basis,
      of: signature.target.digest,
      by: signature.signatures.map(({ location, format, signatory, evidence }) => ({ location, format, signatory, logged: evidence })),
      policy: signature.policy ?? null,
    },
    layers,
    measurement,
    result,
  };
}

/** A record that is written whole, under a name of its own until it is put in place. */
export interface StagedRecord {
  publish(): void;
  /** Takes the record away again: the pull that it tells of failed. */
  withdraw(): void;
}

/** Writes a record beside its final name, before anything is measured or put in place. Throws `ERR_GUEST_STORAGE`. */
export function stageRecord(file: string, record: PullRecord): StagedRecord {
  const path = resolve(file);
  const what = `record ${file}`;
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  let placed = temporary;
  const withdraw = () => storing(what, () => rmSync(placed, { force: true }));
  try {
    storing(what, () => {
      mkdirSync(dirname(path), { recursive: true });
      const fd = openSync(temporary, "wx", 0o644);
      try {
        writeFileSync(fd, `${JSON.stringify(record, undefined, 2)}\n`);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    });
  } catch (error) {
    throw cleanedUp(error, temporary, withdraw);
  }
  return {
    publish() {
      storing(what, () => renameSync(temporary, path));
      placed = path;
    },
    withdraw,
  };
}

/** What can be known before anything is fetched. Throws `ERR_GUEST_RECORD_REFUSED`. */
export function checkRecordFile(file: string, target: string): void {
  const path = resolve(file);
  const inTarget = `${path}${sep}`.startsWith(`${resolve(target)}${sep}`);
  const there = storing(`record ${file}`, () => lstatSync(path, { throwIfNoEntry: false }));
  if (!inTarget && there?.isDirectory() !== true) return;
  throw new GuestError("ERR_GUEST_RECORD_REFUSED", {
    message: `the record cannot be ${file}: ${inTarget ? `it lies in the target ${target}` : "that is a directory"}`,
    hint: "name a file beside the target",
  });
}
