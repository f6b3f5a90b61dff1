import type { ImageReport } from "../src/pipeline/index.ts";
import { formatSize, formatTable } from "./table.ts";

/** What became of each layer, as a table. */
export function reportTable(report: ImageReport, width: number | undefined): string {
  const rows = report.layers.map(({ image, position, outcome, reason, source, result, recipients = [] }) => [
    image,
    String(position),
    reason === undefined ? outcome : `${outcome} (${reason})`,
    formatSize(source.size),
    result.digest.slice(0, 19),
    recipients.join(", "),
  ]);
  return formatTable(["IMAGE", "LAYER", "OUTCOME", "SIZE", "DIGEST", "RECIPIENTS"], rows, width);
}
