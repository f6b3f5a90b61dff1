import { encodeBase64 } from "../../bytes/index.ts";
import type { Attester } from "../protocol/evidence.ts";

/**
 * Evidence of the sample TEE, for development: it proves nothing, and only a service in development mode takes it.
 * Source: guest-components, attestation-agent/attester/src/sample.
 */
export function sampleAttester(): Attester {
  return {
    tee: "sample",
    collect: (reportData) => Promise.resolve({ svn: "1", report_data: encodeBase64(reportData) }),
  };
}
