import { AttestationError } from "../errors.ts";
import type { TeeName } from "../tee.ts";
import { agentRestAttester, agentRestTee } from "./agent-rest.ts";
import { agentSocketAttester, agentSocketTee } from "./agent-socket.ts";
import type { Attester } from "./attester.ts";
import { defaultTsmPath, tsmProvider } from "./configfs-tsm.ts";
import { detectTee } from "./detect.ts";
import { sampleAttester } from "./sample.ts";
import { tsmAttester, type TsmAttesterOptions } from "./tsm-attester.ts";

/** What to attest with. */
export interface OpenAttesterOptions extends Omit<TsmAttesterOptions, "tee"> {
  /** `auto` takes the kernel's TEE, then a running attestation agent; never the sample TEE, which must be asked for. */
  readonly tee: "auto" | "tdx" | "snp" | "sample";
  /** CoCo's agent: its socket and REST proxy; the usual places unless told. */
  readonly agentSocket?: string | undefined;
  readonly agentUrl?: string | undefined;
}

/**
 * The attester of this guest. Throws `ERR_ATTESTER_UNAVAILABLE`, saying what was looked for, when there is none.
 */
export async function openAttester(options: OpenAttesterOptions): Promise<Attester> {
  const { tee, agentSocket, agentUrl, ...tsm } = options;
  if (tee === "sample") return sampleAttester();
  const wanted = tee === "auto" ? undefined : tee;
  const tsmPath = tsm.tsmPath ?? defaultTsmPath;
  const provided = await tsmProvider(tsmPath);
  const named = provided === "absent" || provided === "silent" ? undefined : provided;
  // Whoever plays the kernel in a test may answer without naming a provider; then the caller's word counts.
  const fromKernel = provided === "silent" ? wanted : named;
  if (fromKernel !== undefined && (wanted === undefined || wanted === fromKernel)) return tsmAttester({ ...tsm, tsmPath, tee: fromKernel });
  const fits = (found: TeeName | undefined): found is TeeName => found !== undefined && (wanted === undefined || found === wanted);
  const bySocket = await agentSocketTee(agentSocket);
  if (fits(bySocket)) return agentSocketAttester({ tee: bySocket, socketPath: agentSocket });
  const byRest = await agentRestTee(agentUrl);
  if (fits(byRest)) return agentRestAttester({ tee: byRest, url: agentUrl });
  throw unavailable(wanted, fromKernel ?? bySocket ?? byRest, tsmPath, await detectTee());
}

function unavailable(wanted: string | undefined, found: string | undefined, tsmPath: string, device: string | undefined): AttestationError {
  const what = wanted === undefined ? "no TEE that can be asked for evidence was found" : `no way to get ${wanted} evidence was found`;
  const other = found === undefined ? "" : `; this is a ${found} guest`;
  return new AttestationError("ERR_ATTESTER_UNAVAILABLE", {
    message: `${what} (looked at ${tsmPath}, the attestation agent's socket and its REST proxy)${other}`,
    hint:
      device === undefined
        ? "run this inside a TDX or SEV-SNP guest; for development, ask for the sample TEE and a KBS in --dev mode"
        : `the device of a ${device} guest is there: run as root, with Linux 6.7 or newer and configfs mounted`,
  });
}
