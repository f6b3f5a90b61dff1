/** A name's labels, in a fixed order. */
export type Labels = Readonly<Record<string, string>>;

interface Series {
  readonly labels: Labels;
  value: number;
}

interface HistogramSeries {
  readonly labels: Labels;
  readonly counts: number[];
  sum: number;
  count: number;
}

/** Series of one metric at most: a label that strangers influence must not eat the memory. */
const maxSeries = 500;

interface Metric {
  write(lines: string[]): void;
}

/** A few metrics and their text. Source: Prometheus text exposition format 0.0.4. */
export class MetricsRegistry {
  readonly #metrics: Metric[] = [];

  counter(name: string, help: string): (labels?: Labels, amount?: number) => void {
    const series = new SeriesSet(name, help, "counter");
    this.#metrics.push(series);
    return (labels = {}, amount = 1) => series.add(labels, amount);
  }

  gauge(name: string, help: string): (labels: Labels, value: number) => void {
    const series = new SeriesSet(name, help, "gauge");
    this.#metrics.push(series);
    return (labels, value) => series.set(labels, value);
  }

  /** `buckets` are upper bounds, ascending, without infinity. */
  histogram(name: string, help: string, buckets: readonly number[]): (labels: Labels, value: number) => void {
    const histogram = new Histogram(name, help, buckets);
    this.#metrics.push(histogram);
    return (labels, value) => histogram.observe(labels, value);
  }

  /** The exposition text. */
  text(): string {
    const lines: string[] = [];
    for (const metric of this.#metrics) metric.write(lines);
    return `${lines.join("\n")}\n`;
  }
}

class SeriesSet implements Metric {
  readonly #name: string;
  readonly #help: string;
  readonly #type: "counter" | "gauge";
  readonly #series = new Map<string, Series>();

  constructor(name: string, help: string, type: "counter" | "gauge") {
    this.#name = name;
    this.#help = help;
    this.#type = type;
  }

  add(labels: Labels, amount: number): void {
    const series = this.#of(labels);
    if (series !== undefined) series.value += amount;
  }

  set(labels: Labels, value: number): void {
    const series = this.#of(labels);
    if (series !== undefined) series.value = value;
  }

  write(lines: string[]): void {
    lines.push(`# HELP ${this.#name} ${this.#help}`, `# TYPE ${this.#name} ${this.#type}`);
    // A counter without labels is there from the start, so that its first increase shows as one.
    if (this.#series.size === 0 && this.#type === "counter") lines.push(`${this.#name} 0`);
    for (const { labels, value } of this.#series.values()) lines.push(`${this.#name}${formatLabels(labels)} ${value}`);
  }

  #of(labels: Labels): Series | undefined {
    const key = formatLabels(labels);
    const existing = this.#series.get(key);
    if (existing !== undefined || this.#series.size >= maxSeries) return existing;
    const series = { labels, value: 0 };
    this.#series.set(key, series);
    return series;
  }
}

class Histogram implements Metric {
  readonly #name: string;
  readonly #help: string;
  readonly #buckets: readonly number[];
  readonly #series = new Map<string, HistogramSeries>();

  constructor(name: string, help: string, buckets: readonly number[]) {
    this.#name = name;
    this.#help = help;
    this.#buckets = buckets;
  }

  observe(labels: Labels, value: number): void {
    const key = formatLabels(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      if (this.#series.size >= maxSeries) return;
      series = { labels, counts: this.#buckets.map(() => 0), sum: 0, count: 0 };
      this.#series.set(key, series);
    }
    series.sum += value;
    series.count += 1;
    const bucket = this.#buckets.findIndex((bound) => value <= bound);
    if (bucket >= 0) series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
  }

  write(lines: string[]): void {
    lines.push(`# HELP ${this.#name} ${this.#help}`, `# TYPE ${this.#name} histogram`);
    for (const { labels, counts, sum, count } of this.#series.values()) {
      let below = 0;
      for (const [index, bound] of this.#buckets.entries()) {
        below += counts[index] ?? 0;
        lines.push(`${this.#name}_bucket${formatLabels({ ...labels, le: String(bound) })} ${below}`);
      }
      lines.push(`${this.#name}_bucket${formatLabels({ ...labels, le: "+Inf" })} ${count}`);
      lines.push(`${this.#name}_sum${formatLabels(labels)} ${sum}`, `${this.#name}_count${formatLabels(labels)} ${count}`);
    }
  }
}

/** Names a series too, so it is done for each observation: a loop costs a third of what lists of members do. */
function formatLabels(labels: Labels): string {
  let text = "";
  for (const name in labels) {
    const value = labels[name] ?? "";
    text += `${text === "" ? "{" : ","}${name}="${/["\\\n]/.test(value) ? escaped(value) : value}"`;
  }
  return text === "" ? "" : `${text}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
