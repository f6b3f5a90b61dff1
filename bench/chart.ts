import type { Row } from "./rows.ts";

const width = 860;
const rowHeight = 26;
const left = 330;
const scale = 260;

/** A bar per row: our wall time as a part of the peer's; the line is the goal. */
export function chart(rows: readonly Row[]): string {
  const shown = rows.filter(({ ratio }) => ratio !== undefined);
  const height = 60 + shown.length * rowHeight;
  const bars = shown.map(({ name, ratio = 0, goal }, i) => {
    const y = 44 + i * rowHeight;
    const bar = Math.min(ratio, 2) * scale;
    const colour = goal === undefined || ratio <= goal ? "#2f855a" : "#b7791f";
    const line =
      goal === undefined
        ? ""
        : `<line x1="${left + goal * scale}" y1="${y - 3}" x2="${left + goal * scale}" y2="${y + 17}" stroke="#1a202c" stroke-width="2"/>`;
    return `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${escape(name)}</text><rect x="${left}" y="${y}" width="${bar.toFixed(1)}" height="14" fill="${colour}"/>${line}<text x="${left + bar + 6}" y="${y + 12}">${ratio.toFixed(2)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="wall time as a part of the peer's">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="24" font-size="15" font-weight="600">Wall time as a part of the peer's (shorter is faster; black line: goal)</text>
<line x1="${left + scale}" y1="36" x2="${left + scale}" y2="${height - 12}" stroke="#a0aec0" stroke-dasharray="4 3"/>
${bars.join("\n")}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
