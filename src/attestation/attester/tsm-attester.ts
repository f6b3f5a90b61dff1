import { encodeBase64 } from "../../bytes/index.ts";
import { reportToJson, reportToParsedJson } from "../amd/report-json.ts";
import { parseSnpReport } from "../amd/report.ts";
import type { Attester } from "./attester.ts";
import { defaultTsmPath, readEventLogTable, readTsmReport } from "./configfs-tsm.ts";
import type { JsonObject } from "./json.ts";
import { reportDataField } from "./runtime-data.ts";

/** How a hardware attester works. */
export interface TsmAttesterOptions {
  readonly tee: "tdx" | "snp";
  /** `/sys/kernel/config/tsm/report` unless told. */
  readonly tsmPath?: string | undefined;
  /** The firmware's event log (TDX); the ACPI CCEL table unless told. */
  readonly eventLogPath?: string | undefined;
  /** SNP: the VMPL to report at. */
  readonly privlevel?: number | undefined;
  /**
   * SNP: how the report travels. `parsed` is what stock Trustee reads (and we do); `raw` loses nothing and only we read it.
   */
  readonly snpForm?: "parsed" | "raw" | undefined;
}

const eventLogTable = "/sys/firmware/acpi/tables/data/CCEL";

/** Collects evidence from the kernel through configfs-tsm. */
export function tsmAttester(options: TsmAttesterOptions): Attester {
  const { tee, tsmPath = defaultTsmPath, eventLogPath = eventLogTable, privlevel, snpForm = "parsed" } = options;
  return {
    tee,
    collect: async (reportData, { signal } = {}) => {
      const inblob = reportDataField(tee, reportData);
      const report = await readTsmReport({ tsmPath, inblob, tee, privlevel, signal });
      if (tee === "tdx") {
        const log = await readEventLogTable(eventLogPath);
        return { cc_eventlog: log === undefined ? null : encodeBase64(log), quote: encodeBase64(report.outblob) };
      }
      return snpEvidence(report.outblob, report.auxblob, snpForm);
    },
  };
}

function snpEvidence(outblob: Buffer, auxblob: Buffer, form: "parsed" | "raw"): JsonObject {
  const report = parseSnpReport(outblob);
  const raw = reportToJson(outblob, report.signingKey, auxblob);
  return form === "raw" ? raw : { ...raw, attestation_report: reportToParsedJson(report, report.product ?? "Milan") };
}
