import type { Rate } from "./rate-limit.ts";

/** What a stranger may ask of a service. */
export interface ServerLimits {
  /** Bytes of a request body. */
  readonly maxBodyBytes: number;
  /** Bytes of a request head; verbose tokens of GPU guests need room. */
  readonly maxHeadBytes: number;
  /** Until the head is there. */
  readonly headTimeoutMs: number;
  /** Until the whole request is there. */
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly maxConnections: number;
  /** Attestations that are judged at the same time; more wait, then are refused. */
  readonly maxConcurrentAttestations: number;
  /** Per address of a caller. */
  readonly addressRate: Rate;
  /** Per administrator. */
  readonly subjectRate: Rate;
  /** How long a handshake may take. */
  readonly sessionLifetimeMs: number;
}

export const defaultLimits: ServerLimits = {
  maxBodyBytes: 2 << 20,
  maxHeadBytes: 64 << 10,
  headTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 65_000,
  maxConnections: 4096,
  maxConcurrentAttestations: 64,
  addressRate: { perSecond: 500, burst: 2000 },
  subjectRate: { perSecond: 200, burst: 1000 },
  sessionLifetimeMs: 5 * 60_000,
};
