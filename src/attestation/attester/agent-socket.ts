import { AttestationError } from "../errors.ts";
import { isTeeName, type TeeName } from "../tee.ts";
import { agentInput, parseAgentEvidence } from "./agent-rest.ts";
import type { Attester } from "./attester.ts";
import { callTtrpc, field, readBytesField, type TtrpcCall } from "./ttrpc.ts";

/** Where CoCo's attestation agent listens in a guest. Source: reference B 5.1. */
export const defaultAgentSocket = "/run/confidential-containers/attestation-agent/attestation-agent.sock";

const service = "attestation_agent.AttestationAgentService";

/** Collects evidence from a running attestation agent over its ttrpc socket. */
export function agentSocketAttester(options: { readonly tee: TeeName; readonly socketPath?: string | undefined }): Attester {
  const { tee, socketPath = defaultAgentSocket } = options;
  return {
    tee,
    collect: async (reportData, { signal } = {}) => {
      const call: TtrpcCall = { socketPath, service, method: "GetEvidence", payload: field(1, agentInput(tee, reportData)), signal };
      return parseAgentEvidence(readBytesField(await callTtrpc(call), call), socketPath);
    },
  };
}

/** The TEE that the agent behind a socket serves, or `undefined` when none listens. */
export async function agentSocketTee(socketPath: string = defaultAgentSocket): Promise<TeeName | undefined> {
  const call: TtrpcCall = { socketPath, service, method: "GetTeeType", payload: new Uint8Array() };
  try {
    const tee = readBytesField(await callTtrpc(call), call).toString("utf8");
    return isTeeName(tee) ? tee : undefined;
  } catch (error) {
    if (error instanceof AttestationError && error.code === "ERR_ATTESTER_UNAVAILABLE") return undefined;
    throw error;
  }
}
