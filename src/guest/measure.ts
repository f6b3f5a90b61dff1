import type { Digest } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import type { CallOptions } from "../store/index.ts";
import { GuestError } from "./errors.ts";

/** What is measured of a pull: the image as it was named, and the digest of the manifest that runs. */
export interface PullMeasurement {
  readonly image: string;
  readonly digest: Digest;
}

/**
 * Extends a runtime measurement register with a pull, so that later evidence of this guest shows what it runs. Throws when
 * it could not: the pull then fails, and nothing is put in place.
 */
export type MeasurementSink = (measurement: PullMeasurement, options: CallOptions) => Promise<void>;

/** The same event as CoCo's Confidential Data Hub writes, so that one reference value serves both. */
const event = { domain: "github.com/confidential-containers", operation: "PullImage" } as const;
const timeoutMs = 30_000;
const loopback = /^(?:127(?:\.[0-9]{1,3}){3}|\[::1\]|localhost)$/;

/**
 * Measures through the attestation agent's REST interface (`POST /aa/aael` of api-server-rest, `http://127.0.0.1:8006`).
 * Plain HTTP on loopback only: elsewhere nobody would know who answers. Throws `ERR_GUEST_MEASUREMENT`.
 */
export function agentMeasurementSink(agent: { readonly url: string }): MeasurementSink {
  const url = URL.canParse(agent.url) ? new URL("/aa/aael", agent.url) : undefined;
  if (url === undefined || url.protocol !== "http:" || !loopback.test(url.hostname)) {
    throw failed(`the attestation agent's address ${JSON.stringify(agent.url.slice(0, 200))} is not HTTP on loopback`, undefined);
  }
  return async ({ image, digest }, { signal }) => {
    const signals = [AbortSignal.timeout(timeoutMs), ...(signal === undefined ? [] : [signal])];
    let status: number;
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...event, content: JSON.stringify({ image, digest }) }),
        redirect: "error",
        signal: AbortSignal.any(signals),
      });
      ({ status } = response);
      await response.body?.cancel();
    } catch (cause) {
      throw failed(`the attestation agent at ${url.origin} did not answer: ${describeCause(cause)}`, cause);
    }
    if (status !== 200) throw failed(`the attestation agent at ${url.origin} answered ${status}`, undefined);
  };
}

function failed(message: string, cause: unknown): GuestError {
  return new GuestError("ERR_GUEST_MEASUREMENT", {
    message: `the pull could not be measured: ${message}`,
    hint: "check that the attestation agent runs with runtime measurements enabled (api-server-rest --features attestation), or pull without --aa",
    cause,
  });
}
