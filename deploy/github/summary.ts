/** What `ociseal encrypt --json` answers, as far as the summary needs it. */
export interface SealReport {
  readonly result: { readonly digest: string };
  readonly layers: readonly {
    readonly image: string;
    readonly position: number;
    readonly outcome: string;
    readonly result: { readonly digest: string; readonly size: number };
  }[];
  readonly keys: readonly { readonly uri: string; readonly outcome: string; readonly proof: string }[];
  readonly signatures: readonly unknown[];
}

/** Text that stands for itself in Markdown, on one line. */
function code(text: string): string {
  return `\`${text.replaceAll(/[`\r\n|]/g, " ")}\``;
}

/** The run's page: what was sealed, and which keys opened it. */
export function summaryOf(destination: string, report: SealReport, keyless: "on" | "off"): string {
  const signed = report.signatures.length > 0 || keyless === "on" ? "signed" : "**not signed**";
  const rows = report.layers.map(
    ({ image, position, outcome, result }) =>
      `| ${code(image)} | ${position} | ${outcome} | ${result.size} | ${code(result.digest.slice(0, 19))} |`,
  );
  return [
    "### Sealed image",
    `${code(destination)} is now ${code(report.result.digest)}, ${signed}.`,
    "",
    "| Image | Layer | Outcome | Bytes | Digest |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    ...report.keys.map(({ uri, outcome, proof }) => `- key ${code(uri)}: ${outcome} (${proof})`),
  ].join("\n");
}
