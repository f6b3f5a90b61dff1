import { BytesError } from "../bytes/index.ts";
import { describeCause, ToolError, type ErrorCategory, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const storeErrors = {
  ERR_STORE_NOT_FOUND: { category: "not-found", summary: "An image, tag or blob is not in the store." },
  ERR_STORE_AMBIGUOUS: {
    category: "usage",
    summary: "A name fits several images of a layout or archive, or none was given and there are several.",
  },
  ERR_STORE_MALFORMED: { category: "integrity", summary: "A layout or archive is not what its format demands." },
  ERR_STORE_UNSUPPORTED: { category: "usage", summary: "The store cannot do this: it is read-only, or its format knows no such thing." },
  ERR_STORE_LOCKED: { category: "unavailable", summary: "Another process holds the lock of a layout for too long." },
  ERR_STORE_IO: { category: "io", summary: "Reading or writing a local file failed." },
  ERR_STORE_LIMIT: { category: "integrity", summary: "An image graph, index or archive passes a limit on size, number or depth." },
} as const satisfies ErrorTable;

export class StoreError extends ToolError<keyof typeof storeErrors> {
  constructor(code: keyof typeof storeErrors, facts: ErrorFacts) {
    super(code, storeErrors[code].category, facts);
  }
}

/** Which side of a copy failed. */
export type CopySide = "source" | "destination";

/**
 * The failure of one side of a copy, under the code and category of its cause, so that who switches on codes sees no
 * difference. `details.side` and the message say which side it was; `cause` is the original.
 */
export class CopyError extends ToolError {
  readonly side: CopySide;

  constructor(side: CopySide, storeName: string, subject: string, cause: unknown) {
    const wrapped = ioError(cause, `copying ${subject}`);
    const known = wrapped instanceof ToolError ? wrapped : undefined;
    const code: string = known?.code ?? "ERR_STORE_IO";
    const category: ErrorCategory = known?.category ?? "io";
    const told = describeCause(cause);
    super(code, category, {
      message: told.includes(storeName) ? `${side}: ${told}` : `${side} ${storeName}: ${subject}: ${told}`,
      hint: known?.hint,
      details: { ...known?.details, side, store: storeName },
      cause,
    });
    this.side = side;
  }
}

const advice: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full; free space and run the command again, what was copied stays",
  EDQUOT: "the disk quota is used up; free space and run the command again, what was copied stays",
  EACCES: "check the owner and permissions of the path",
  EPERM: "check the owner and permissions of the path",
  EROFS: "the file system is read-only; choose another place",
  EMFILE: "too many files are open; raise the limit (ulimit -n) or lower the concurrency",
  ENAMETOOLONG: "choose a shorter path",
};

/** Wraps what `node:fs` threw as `ERR_STORE_IO`; errors of our own pass unchanged, an abort is `ERR_INTERRUPTED`. */
export function ioError(cause: unknown, doing: string): Error {
  if (cause instanceof ToolError) return cause;
  if (cause instanceof Error && cause.name === "AbortError") {
    return new BytesError("ERR_INTERRUPTED", { message: `${doing}: interrupted`, cause });
  }
  const code = systemCode(cause);
  return new StoreError("ERR_STORE_IO", {
    message: `${doing}: ${describeCause(cause)}`,
    hint: code === undefined ? undefined : advice[code],
    details: code === undefined ? {} : { systemCode: code },
    cause,
  });
}

/** Throws `ERR_INTERRUPTED`, or the error that the signal was aborted with, once it is aborted. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw ioError(signal.reason, "the operation");
}

/** `ENOENT` and the like of a system error. */
export function systemCode(cause: unknown): string | undefined {
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
}
