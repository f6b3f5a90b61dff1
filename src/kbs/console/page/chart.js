// @ts-check
import { cell, empty, h, svg, table, time } from "./dom.js";

/**
 * @typedef {{ readonly allow: number, readonly deny: number, readonly error: number }} Outcomes
 * @typedef {{ readonly from: string, readonly attestations: Outcomes, readonly releases: Outcomes }} Bucket
 */

/** Bottom to top. */
const series = /** @type {const} */ ([
  { member: "allow", label: "verified", fill: "good-fill" },
  { member: "deny", label: "refused", fill: "bad-fill" },
  { member: "error", label: "could not be judged", fill: "warn-fill" },
]);
const height = 220;
const margin = { top: 12, right: 8, bottom: 24, left: 44 };

/**
 * Attestations over time: a bar per stretch of time, and the same as a table for whoever does not see it.
 * @param {readonly Bucket[]} buckets
 * @param {{ readonly width: number, readonly seconds: number }} size
 * @returns {readonly Node[]}
 */
export function attestationChart(buckets, { width, seconds }) {
  const sums = series.map(({ member }) => buckets.reduce((sum, bucket) => sum + bucket.attestations[member], 0));
  const total = sums.reduce((sum, one) => sum + one, 0);
  if (total === 0) return [empty("No guest has attested in this time.")];
  const summary = series.map(({ label }, index) => `${sums[index]} ${label}`).join(", ");
  const legend = h(
    "div",
    { class: "legend" },
    ...series.map(({ label, fill }, index) =>
      h(
        "span",
        {},
        svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, class: fill })),
        `${label}: ${sums[index]}`,
      ),
    ),
  );
  return [drawing(buckets, { width, seconds, summary }), legend, asTable(buckets)];
}

/**
 * @param {readonly Bucket[]} buckets
 * @param {{ readonly width: number, readonly seconds: number, readonly summary: string }} options
 */
function drawing(buckets, { width, seconds, summary }) {
  const highest = roundUp(Math.max(...buckets.map(({ attestations: { allow, deny, error } }) => allow + deny + error)));
  const plotHeight = height - margin.top - margin.bottom;
  const step = (width - margin.left - margin.right) / buckets.length;
  const y = (/** @type {number} */ value) => margin.top + plotHeight * (1 - value / highest);
  const root = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Attestations: ${summary}` });
  for (const value of [0, highest / 2, highest]) {
    if (!Number.isInteger(value)) continue;
    root.append(
      svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }),
      svg("text", { x: margin.left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString()),
    );
  }
  const labelEvery = Math.max(1, Math.ceil(buckets.length / Math.max(1, Math.floor((width - margin.left) / 110))));
  for (const [index, bucket] of buckets.entries()) {
    const x = margin.left + index * step;
    let below = 0;
    const bar = svg(
      "g",
      {},
      svg(
        "title",
        {},
        `${clock(bucket.from, 0)}: ${series.map(({ member, label }) => `${bucket.attestations[member]} ${label}`).join(", ")}`,
      ),
    );
    for (const { member, fill } of series) {
      const value = bucket.attestations[member];
      if (value === 0) continue;
      bar.append(
        svg("rect", {
          class: fill,
          x: x + step * 0.12,
          width: Math.max(1, step * 0.76),
          y: y(below + value),
          height: Math.max(1, y(below) - y(below + value)),
        }),
      );
      below += value;
    }
    root.append(bar);
    // The label of a bar at the very end would be cut.
    if (index % labelEvery === 0 && x < width - 60) root.append(svg("text", { x, y: height - 6 }, clock(bucket.from, seconds)));
  }
  return root;
}

/** @param {readonly Bucket[]} buckets */
function asTable(buckets) {
  const rows = buckets
    .filter(({ attestations: { allow, deny, error } }) => allow + deny + error > 0)
    .map(({ from, attestations }) => [
      h("td", { class: "once" }, time(from)),
      ...series.map(({ member }) => cell(attestations[member], "number")),
    ]);
  const heads = series.map(({ label }) => ({ text: label, class: "number" }));
  return h("details", {}, h("summary", {}, "Show as a table"), table("Attestations over time", ["from", ...heads], rows));
}

/**
 * @param {string} iso
 * @param {number} seconds length of a stretch; 0 for day and time
 */
function clock(iso, seconds) {
  const date = new Date(iso);
  if (seconds === 0) return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return seconds < 7200
    ? date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString(undefined, { month: "short", day: "numeric" });
}

/**
 * 1, 2, 4, 6, 8, 10, 20, 40…: the next number whose half is worth a line of its own.
 * @param {number} value
 */
function roundUp(value) {
  for (let power = 1; ; power *= 10) for (const step of [1, 2, 4, 6, 8]) if (value <= power * step) return power * step;
}
