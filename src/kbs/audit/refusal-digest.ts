import type { AuditEntry } from "./record.ts";

/** How much of the log strangers may write. */
export interface RefusalDigestLimits {
  /** Summaries are written this often. */
  readonly intervalMs: number;
  /** Refusals per interval that get a record of their own. */
  readonly inFull: number;
  /** Of these, for one client. */
  readonly inFullPerClient: number;
  /** Clients that get a summary of their own; the others share one. */
  readonly clients: number;
}

/** About 120 records in five minutes at most: 25 MiB a day, whatever strangers do. */
export const defaultRefusalDigestLimits: RefusalDigestLimits = { intervalMs: 300_000, inFull: 100, inFullPerClient: 10, clients: 20 };

interface Tally {
  written: number;
  counted: number;
  since: Date;
  readonly actions: Map<string, number>;
}

/** Clients that are told apart in memory; whoever comes later is among the others. */
const maxTracked = 10_000;
const maxActions = 20;
const maxReasonLength = 300;
const maxReasons = 4;

/**
 * Refusals of callers who proved nothing: anybody can cause them, as fast as the network carries, so each client's first
 * few stand in the log in full and the rest as a number per client and interval. A disk cannot be filled with them, and
 * the log still says who knocked, where and how often.
 *
 * Counts are in memory until the interval ends: a process that is killed loses at most those of one interval.
 */
export class RefusalDigest {
  readonly #append: (entry: AuditEntry) => Promise<void>;
  readonly #limits: RefusalDigestLimits;
  readonly #now: () => Date;
  #tallies = new Map<string, Tally>();
  #written = 0;

  constructor(parts: {
    readonly append: (entry: AuditEntry) => Promise<void>;
    readonly limits: RefusalDigestLimits;
    readonly now: () => Date;
  }) {
    this.#append = parts.append;
    this.#limits = parts.limits;
    this.#now = parts.now;
  }

  get intervalMs(): number {
    return this.#limits.intervalMs;
  }

  /** Writes a refusal, or counts it when this interval has enough of them. Throws when it cannot be written. */
  async add(entry: AuditEntry): Promise<"written" | "counted"> {
    const tally = this.#tallyOf(entry.address);
    const { inFull, inFullPerClient } = this.#limits;
    if (this.#written >= inFull || tally.written >= inFullPerClient) {
      this.#count(tally, entry.action);
      return "counted";
    }
    tally.written += 1;
    this.#written += 1;
    await this.#append({ ...entry, ...(entry.reasons === undefined ? {} : { reasons: shortened(entry.reasons) }) });
    return "written";
  }

  /** Counts a refusal that is worth no record of its own: the caller did not even claim to be somebody. */
  count(address: string, action: string): void {
    this.#count(this.#tallyOf(address), action);
  }

  /** Ends the interval: writes what was counted. What cannot be written is counted on. */
  async flush(): Promise<void> {
    const tallies = [...this.#tallies].filter(([, { counted }]) => counted > 0);
    this.#tallies = new Map();
    this.#written = 0;
    const loudest = tallies.toSorted(([, left], [, right]) => right.counted - left.counted);
    const named = loudest.slice(0, this.#limits.clients);
    const others = loudest.slice(this.#limits.clients).map(([, tally]) => tally);
    for (const [address, tally] of [...named, ...(others.length === 0 ? [] : [["", merged(others)] as const])]) {
      try {
        await this.#append(summaryOf(address, tally, others.length));
      } catch (cause) {
        this.#restore(address, tally);
        throw cause;
      }
    }
  }

  #count(tally: Tally, action: string): void {
    tally.counted += 1;
    const name = tally.actions.size < maxActions || tally.actions.has(action) ? action : "other";
    tally.actions.set(name, (tally.actions.get(name) ?? 0) + 1);
  }

  #tallyOf(address: string): Tally {
    const key = this.#tallies.has(address) || this.#tallies.size < maxTracked ? address : "";
    const known = this.#tallies.get(key);
    if (known !== undefined) return known;
    const tally: Tally = { written: 0, counted: 0, since: this.#now(), actions: new Map() };
    this.#tallies.set(key, tally);
    return tally;
  }

  #restore(address: string, { counted, since, actions }: Tally): void {
    const tally = this.#tallyOf(address);
    tally.counted += counted;
    if (since < tally.since) tally.since = since;
    for (const [action, count] of actions) tally.actions.set(action, (tally.actions.get(action) ?? 0) + count);
  }
}

function merged(tallies: readonly Tally[]): Tally {
  const sum: Tally = {
    written: 0,
    counted: 0,
    since: new Date(Math.min(...tallies.map(({ since }) => since.getTime()))),
    actions: new Map(),
  };
  for (const { counted, actions } of tallies) {
    sum.counted += counted;
    for (const [action, count] of actions) sum.actions.set(action, (sum.actions.get(action) ?? 0) + count);
  }
  return sum;
}

function summaryOf(address: string, { counted, since, actions }: Tally, others: number): AuditEntry {
  return {
    action: "refusals",
    decision: "deny",
    actor: "unknown",
    requestId: "",
    address,
    count: counted,
    since: since.toISOString(),
    reasons: [...(address === "" ? [`${others} further addresses`] : []), ...[...actions].map(([action, count]) => `${action}: ${count}`)],
  };
}

/** Reasons may quote what the stranger sent. */
function shortened(reasons: readonly string[]): readonly string[] {
  return reasons.slice(0, maxReasons).map((reason) => reason.slice(0, maxReasonLength));
}
