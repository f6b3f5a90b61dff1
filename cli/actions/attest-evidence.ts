import { openAttester } from "../../src/attestation/index.ts";
import { decodeHex } from "../../src/bytes/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { writeWholeFile } from "../files.ts";
import { teeOf } from "../kbs-connection.ts";

interface EvidenceFlags {
  readonly tee: string;
  readonly reportData?: string;
  readonly tsmPath?: string;
  readonly out?: string;
}

export const attestEvidence: Action<EvidenceFlags> = async (shell, _args, { tee, reportData = "", tsmPath, out }) => {
  const bytes = decodeHex(reportData, "--report-data");
  if (bytes.length > 64) throw usage("--report-data takes at most 64 bytes");
  const attester = await openAttester({ tee: teeOf(tee), tsmPath });
  const evidence = await attester.collect(bytes, { signal: shell.signal });
  const document = { tee: attester.tee, evidence };
  if (out === undefined) {
    await shell.result(JSON.stringify(document, undefined, 2), document);
    return;
  }
  await writeWholeFile(out, `${JSON.stringify(evidence)}\n`);
  await shell.result(`${attester.tee} evidence is in ${out}`, { tee: attester.tee, out });
};
