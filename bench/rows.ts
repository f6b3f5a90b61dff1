import { median, type Sample } from "./measure.ts";

/** One line of the result. */
export interface Row {
  readonly name: string;
  readonly ours: { readonly wall: number; readonly cpu: number; readonly rss: number };
  readonly peer: { readonly name: string; readonly wall: number; readonly cpu: number; readonly rss: number } | undefined;
  /** Median over the pairs of our wall time by the peer's, with the smallest and the largest. */
  readonly ratio: number | undefined;
  readonly spread: readonly [number, number] | undefined;
  readonly goal: number | undefined;
}

/** One number that has no peer: what a service does, against what is asked of it. */
export interface Measure {
  /** The scenario. */
  readonly name: string;
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  readonly goal?: { readonly least: number } | { readonly most: number } | undefined;
}

export function isMet({ value, goal }: Measure): boolean {
  if (goal === undefined) return true;
  return "least" in goal ? value >= goal.least : value <= goal.most;
}

export function lineOf(measure: Measure): string {
  const { name, what, value, unit, goal } = measure;
  const text = `${name}: ${what}: ${Number(value.toPrecision(3))}${unit === "" ? "" : ` ${unit}`}`;
  if (goal === undefined) return text;
  const wanted = "least" in goal ? `at least ${goal.least}` : `at most ${goal.most}`;
  return `${text} (goal ${wanted}${isMet(measure) ? "" : ", missed"})`;
}

export interface RowSettings {
  readonly name: string;
  readonly peer: string | undefined;
  readonly goal?: number | undefined;
}

export function rowOf(
  { name, peer, goal }: RowSettings,
  samples: { readonly ours: readonly Sample[]; readonly peer: readonly Sample[] },
): Row {
  const ratios = samples.ours.flatMap(({ wall }, i) => {
    const other = samples.peer[i];
    return other === undefined ? [] : [wall / other.wall];
  });
  return {
    name,
    ours: summary(samples.ours),
    peer: peer === undefined || samples.peer.length === 0 ? undefined : { name: peer, ...summary(samples.peer) },
    ratio: ratios.length === 0 ? undefined : median(ratios),
    spread: ratios.length === 0 ? undefined : [Math.min(...ratios), Math.max(...ratios)],
    goal,
  };
}

function summary(samples: readonly Sample[]): { readonly wall: number; readonly cpu: number; readonly rss: number } {
  return {
    wall: median(samples.map(({ wall }) => wall)),
    cpu: median(samples.map(({ cpu }) => cpu)),
    rss: Math.max(...samples.map(({ rss }) => rss)),
  };
}

export function tableOf(rows: readonly Row[]): string {
  const header = ["scenario", "wall s", "CPU s", "RSS MiB", "peer", "wall s", "CPU s", "RSS MiB", "ratio", "spread", "goal"];
  const lines = rows.map(({ name, ours, peer, ratio, spread, goal }) => [
    name,
    ours.wall.toFixed(2),
    ours.cpu.toFixed(2),
    ours.rss.toFixed(0),
    peer?.name ?? "",
    peer?.wall.toFixed(2) ?? "",
    peer?.cpu.toFixed(2) ?? "",
    peer?.rss.toFixed(0) ?? "",
    ratio?.toFixed(2) ?? "",
    spread === undefined ? "" : `${spread[0].toFixed(2)}-${spread[1].toFixed(2)}`,
    goal === undefined ? "" : `${goal}${ratio === undefined || ratio <= goal ? "" : " missed"}`,
  ]);
  const widths = header.map((_, i) => Math.max(...[header, ...lines].map((line) => line[i]?.length ?? 0)));
  return [header, ...lines]
    .map((line) =>
      line
        .map((cell, i) => (i === 0 || i === 4 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
