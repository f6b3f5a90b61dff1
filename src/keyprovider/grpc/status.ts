import { ToolError, type ErrorCategory } from "../../errors/index.ts";

/** Source: gRPC, `doc/statuscodes.md`. */
export const grpcCodes = {
  ok: 0,
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;

/** How a call ended. */
export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

const byCategory: Readonly<Record<ErrorCategory, number>> = {
  internal: grpcCodes.internal,
  usage: grpcCodes.invalidArgument,
  "not-found": grpcCodes.notFound,
  unavailable: grpcCodes.unavailable,
  denied: grpcCodes.permissionDenied,
  integrity: grpcCodes.invalidArgument,
  "no-key": grpcCodes.permissionDenied,
  attestation: grpcCodes.permissionDenied,
  io: grpcCodes.internal,
  interrupted: grpcCodes.cancelled,
};

/** What a caller is told about a failure. Only errors made for readers leave the service; of others, that there was one. */
export function statusOf(thrown: unknown): GrpcStatus {
  if (!(thrown instanceof ToolError)) return { code: grpcCodes.internal, message: "internal error (ERR_INTERNAL)" };
  const hint = thrown.hint === undefined ? "" : `; ${thrown.hint}`;
  return { code: byCategory[thrown.category], message: `${thrown.message} (${thrown.code})${hint}` };
}

const maxWords = 1024;

/** A message as the header `grpc-message` carries it. Source: gRPC over HTTP/2, "Responses": percent-encoded UTF-8. */
export function encodeWords(message: string): string {
  const bytes = Buffer.from(message.slice(0, maxWords), "utf8");
  return [...bytes]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
    )
    .join("");
}

const units: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 };

/**
 * The header `grpc-timeout` in milliseconds, no longer than `maxMs`; `undefined` when it is malformed. Source: gRPC over
 * HTTP/2, "Timeout": at most eight digits and a unit.
 */
export function deadlineOf(header: string | undefined, maxMs: number): number | undefined {
  if (header === undefined) return maxMs;
  const match = /^(\d{1,8})([HMSmun])$/.exec(header);
  if (match === null) return undefined;
  return Math.min(maxMs, Math.ceil(Number(match[1]) * (units[match[2] ?? ""] ?? 1)));
}
