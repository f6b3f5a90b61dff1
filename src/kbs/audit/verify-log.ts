import { compactVerify, decodeProtectedHeader, type CryptoKey, type KeyObject } from "jose";
import { equalBytes, parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { memberAt } from "../protocol/shape.ts";
import { parseRecordLine } from "./parse-line.ts";
import { readLines, type LogPlace } from "./read-log.ts";
import { firstPrev, hashOf, type AuditHead, type AuditRecord } from "./record.ts";

/** The first thing that is wrong with a log. */
export interface AuditBreak {
  readonly kind: "malformed" | "edited" | "cut-or-reordered" | "checkpoint-invalid" | "tail-missing";
  readonly place: LogPlace | undefined;
  readonly seq: number;
  readonly message: string;
}

/** What the verification of a log found. */
export interface AuditVerdict {
  readonly verdict: "intact" | "broken";
  readonly records: number;
  readonly checkpoints: number;
  /** `beginning`: from the first record on; `checkpoint`: older files are gone, and the first record is signed. */
  readonly startsAt: "beginning" | "checkpoint" | "nothing";
  readonly head: AuditHead | undefined;
  readonly break?: AuditBreak | undefined;
}

export interface AuditVerifyOptions {
  /** The public key of an id, or `undefined`. */
  readonly keyOf: (kid: string) => KeyObject | CryptoKey | undefined;
  /** The head that was kept elsewhere at the last checkpoint: the log must reach it. */
  readonly knownHead?: AuditHead | undefined;
}

/**
 * Verifies a log: every hash, the order, every signed checkpoint, and that it reaches the head that was kept elsewhere.
 *
 * An edit, a cut, an insertion and a reorder all break the chain at the first record that they touch; a cut at the end
 * is found by the kept head, up to the records since the last checkpoint.
 */
export async function verifyAuditLog(directory: string, options: AuditVerifyOptions): Promise<AuditVerdict> {
  const state: State = { records: 0, checkpoints: 0, startsAt: "nothing", head: undefined, knownSeen: options.knownHead === undefined };
  for await (const { bytes, place } of readLines(directory)) {
    const found = await checkLine(bytes, place, state, options);
    if (found !== undefined) return { ...verdictOf(state), verdict: "broken", break: found };
  }
  const known = options.knownHead;
  if (!state.knownSeen && known !== undefined) {
    const message = `the log ends at record ${state.head?.seq ?? 0}, or differs, before the checkpoint at ${known.seq}`;
    return {
      ...verdictOf(state),
      verdict: "broken",
      break: { kind: "tail-missing", place: undefined, seq: state.head?.seq ?? 0, message },
    };
  }
  return { ...verdictOf(state), verdict: "intact" };
}

interface State {
  records: number;
  checkpoints: number;
  startsAt: AuditVerdict["startsAt"];
  head: AuditHead | undefined;
  knownSeen: boolean;
}

function verdictOf(state: State): Omit<AuditVerdict, "verdict"> {
  return { records: state.records, checkpoints: state.checkpoints, startsAt: state.startsAt, head: state.head };
}

async function checkLine(bytes: Buffer, place: LogPlace, state: State, options: AuditVerifyOptions): Promise<AuditBreak | undefined> {
  let record: AuditRecord;
  try {
    record = parseRecordLine(bytes);
  } catch (cause) {
    return { kind: "malformed", place, seq: (state.head?.seq ?? 0) + 1, message: describeCause(cause) };
  }
  const { hash, ...rest } = record;
  const broken = (kind: AuditBreak["kind"], message: string): AuditBreak => ({ kind, place, seq: record.seq, message });
  if (!equalBytes(Buffer.from(hashOf(rest), "hex"), Buffer.from(hash, "hex")))
    return broken("edited", `record ${record.seq} does not match its hash`);
  const former = state.head;
  if (former !== undefined && (record.prev !== former.hash || record.seq !== former.seq + 1 || record.chain !== former.chain)) {
    return broken("cut-or-reordered", `record ${record.seq} does not follow record ${former.seq}`);
  }
  if (former === undefined) {
    const beginning = record.seq === 1 && record.prev === firstPrev;
    if (!beginning && record.checkpoint === undefined)
      return broken("cut-or-reordered", `the log begins at record ${record.seq}, which is not a signed checkpoint`);
    state.startsAt = beginning ? "beginning" : "checkpoint";
  }
  if (record.checkpoint !== undefined) {
    const problem = await checkCheckpoint(record.checkpoint, record, options);
    if (problem !== undefined) return broken("checkpoint-invalid", problem);
    state.checkpoints += 1;
  }
  state.head = { chain: record.chain, seq: record.seq, hash: record.hash };
  state.records += 1;
  const known = options.knownHead;
  if (known !== undefined && record.seq === known.seq && record.chain === known.chain && record.hash === known.hash) state.knownSeen = true;
  return undefined;
}

/** A checkpoint is about the record right before it. */
async function checkCheckpoint(jws: string, record: AuditRecord, options: AuditVerifyOptions): Promise<string | undefined> {
  try {
    const { kid } = decodeProtectedHeader(jws);
    const key = kid === undefined ? undefined : options.keyOf(kid);
    if (key === undefined) return `the checkpoint at record ${record.seq} is signed by an unknown key`;
    const { payload } = await compactVerify(jws, key, { algorithms: ["ES256", "EdDSA"] });
    const claims = parseJson(payload, { maxBytes: 4096 });
    const about = [memberAt(claims, "chain"), memberAt(claims, "seq"), memberAt(claims, "hash")];
    const matches = about[0] === record.chain && about[1] === record.seq - 1 && about[2] === record.prev;
    return matches ? undefined : `the checkpoint at record ${record.seq} is about another record`;
  } catch (cause) {
    return `the checkpoint at record ${record.seq} does not verify: ${describeCause(cause)}`;
  }
}
