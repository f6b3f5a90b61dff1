/** Rows as aligned columns. The last column takes what is left of the width and is cut with an ellipsis. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[], width = 120): string {
  const all = [header, ...rows].map((row) => header.map((_, i) => printable(row[i] ?? "")));
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  const last = header.length - 1;
  const used = widths.slice(0, last).reduce((sum, w) => sum + w + 2, 0);
  widths[last] = Math.max(8, Math.min(widths[last] ?? 0, width - used));
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
