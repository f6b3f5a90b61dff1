import type { AuditLog } from "../audit/audit-log.ts";
import { readRecent } from "../audit/read-recent.ts";
import type { AuditEntry } from "../audit/record.ts";
import type { AuditSink } from "../server/audited.ts";

/** How often something ended one way or the other. */
export interface Outcomes {
  readonly allow: number;
  readonly deny: number;
  readonly error: number;
}

/** One stretch of time. */
export interface ActivityBucket {
  /** When it begins. */
  readonly from: Date;
  readonly attestations: Outcomes;
  readonly releases: Outcomes;
}

/** A refusal, or another act worth showing, as it stands in the audit. */
export interface RecentAct {
  readonly time: Date;
  readonly entry: AuditEntry;
}

export interface ActivityView {
  readonly buckets: readonly ActivityBucket[];
  /** Newest first. */
  readonly refusals: readonly RecentAct[];
  /** The last time that somebody had the audit log verified. */
  readonly verification: RecentAct | undefined;
  /** Nothing before this was looked at; `undefined` when the whole log was. */
  readonly since: Date | undefined;
}

type Counted = "attest" | "release";

interface Minute {
  readonly attest: Record<keyof Outcomes, number>;
  readonly release: Record<keyof Outcomes, number>;
}

const minuteMs = 60_000;
const keptMinutes = 31 * 24 * 60;
const maxRefusals = 100;
/** What a start may read of the log: some hours of a busy service, months of a quiet one. */
const maxPrimed = 50_000;

/**
 * What happened lately, counted as it is written to the audit: by the minute, for a month, so that nobody has to read the
 * log for a picture of it. What was before this process started is read from the end of the log, once, when first asked.
 */
export class Activity {
  readonly #log: AuditLog | undefined;
  readonly #now: () => Date;
  readonly #startedAt: Date;
  /** The log's last record before ours. */
  readonly #startedAfter: number;
  readonly #minutes = new Map<number, Minute>();
  #refusals: RecentAct[] = [];
  #verification: RecentAct | undefined;
  #primed: Promise<Date | undefined> | undefined;

  constructor(log: AuditLog | undefined, now: () => Date) {
    this.#log = log;
    this.#now = now;
    this.#startedAt = now();
    this.#startedAfter = log?.head.seq ?? 0;
  }

  /** A sink that counts what reached the other one. */
  watch(sink: AuditSink): AuditSink {
    return {
      append: async (entry) => {
        await sink.append(entry);
        this.#count({ time: this.#now(), entry }, "newer");
      },
    };
  }

  /** The last `hours` in `count` buckets of equal length, the last of which holds this moment. */
  async view({ hours, count }: { readonly hours: number; readonly count: number }): Promise<ActivityView> {
    this.#primed ??= this.#prime();
    const since = await this.#primed;
    const bucketMs = (hours * 3_600_000) / count;
    const end = Math.ceil((this.#now().getTime() + 1) / bucketMs) * bucketMs;
    const buckets = Array.from({ length: count }, (_, index) => ({
      from: new Date(end - (count - index) * bucketMs),
      attestations: { allow: 0, deny: 0, error: 0 },
      releases: { allow: 0, deny: 0, error: 0 },
    }));
    for (const [minute, counts] of this.#minutes) {
      const bucket = buckets[count - Math.ceil((end - minute * minuteMs) / bucketMs)];
      if (bucket === undefined) continue;
      add(bucket.attestations, counts.attest);
      add(bucket.releases, counts.release);
    }
    return { buckets, refusals: this.#refusals, verification: this.#verification, since };
  }

  /** Returns since when the log was read; `undefined` when it was read whole. */
  async #prime(): Promise<Date | undefined> {
    if (this.#log === undefined) return this.#startedAt;
    const oldest = this.#now().getTime() - keptMinutes * minuteMs;
    let read = 0;
    let since = this.#startedAt;
    for await (const record of readRecent(this.#log.directory)) {
      const time = new Date(record.time);
      if (read >= maxPrimed || time.getTime() < oldest) return since;
      read += 1;
      since = time;
      if (record.seq <= this.#startedAfter) this.#count({ time, entry: record }, "older");
    }
    return undefined;
  }

  #count(act: RecentAct, order: "newer" | "older"): void {
    const { action, decision } = act.entry;
    // That something is about to happen is followed by what came of it.
    if (decision === "intent") return;
    if (action === "attest" || action === "release") this.#minuteOf(act.time)[action satisfies Counted][decision] += act.entry.count ?? 1;
    if (action === "audit.verify" && (order === "newer" || this.#verification === undefined)) this.#verification = act;
    if (decision === "allow") return;
    if (order === "newer") this.#refusals = [act, ...this.#refusals].slice(0, maxRefusals);
    else if (this.#refusals.length < maxRefusals) this.#refusals = [...this.#refusals, act];
  }

  #minuteOf(time: Date): Minute {
    const key = Math.floor(time.getTime() / minuteMs);
    let minute = this.#minutes.get(key);
    if (minute === undefined) {
      minute = { attest: { allow: 0, deny: 0, error: 0 }, release: { allow: 0, deny: 0, error: 0 } };
      this.#minutes.set(key, minute);
      for (const old of this.#minutes.keys()) if (old < key - keptMinutes) this.#minutes.delete(old);
    }
    return minute;
  }
}

function add(sum: Record<keyof Outcomes, number>, more: Outcomes): void {
  sum.allow += more.allow;
  sum.deny += more.deny;
  sum.error += more.error;
}
