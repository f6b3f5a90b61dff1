/** No column is made narrower than this. */
const leastColumn = 8;
/** What says that it is narrower is no terminal that anybody reads: some recorders say 0. */
const leastWidth = 20;

/** The width that lines should fit; `undefined` where there is none. */
function roomOf(width: number | undefined): number | undefined {
  return width === undefined || width < leastWidth ? undefined : width;
}

/**
 * Rows as aligned columns. On a terminal, whose width is given, the widest columns give way until a row fits, and what is
 * cut ends in an ellipsis; elsewhere nothing is cut, for another program may read it.
 */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[], width: number | undefined): string {
  const all = [header, ...rows].map((row) => header.map((_, i) => printable(row[i] ?? "")));
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  const last = header.length - 1;
  for (let over = widths.reduce((sum, w) => sum + w + 2, -2) - (roomOf(width) ?? Infinity); over > 0; over -= 1) {
    // The last of the widest: what stands in front names the row.
    const widest = widths.lastIndexOf(Math.max(...widths));
    if ((widths[widest] ?? 0) <= leastColumn) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return all
    .map((row) =>
      row
        .map((cell, i) => {
          const room = widths[i] ?? 0;
          const text = cell.length > room ? `${cell.slice(0, Math.max(0, room - 1))}…` : cell;
          return i === last ? text : text.padEnd(room);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** Foreign text must not steer the terminal: control characters become visible. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A number with its noun: `1 layer`, `3 layers`. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}

/**
 * Lines that fit a terminal of this width, broken between words; what follows the first is indented. A word that is longer
 * than a line, such as a digest, stays whole. Without a width nothing is broken.
 */
export function wrapped(text: string, width: number | undefined, indent = "  "): string {
  const room = roomOf(width);
  if (room === undefined || text.length <= room) return text;
  const [start = "", ...words] = text.trimStart().split(" ");
  const lines = [text.slice(0, text.length - text.trimStart().length) + start];
  for (const word of words) {
    const longer = `${lines.at(-1) ?? ""} ${word}`;
    if (longer.length <= room) lines.splice(-1, 1, longer);
    else lines.push(`${indent}${word}`);
  }
  return lines.join("\n");
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** A size in bytes for people: `1.5 MiB`. */
export function formatSize(size: number): string {
  let value = size;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}
