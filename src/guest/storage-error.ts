import { printable, type ByteString } from "./byte-string.ts";
import { GuestError } from "./errors.ts";

/** The code of a system error, else `undefined`. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** Runs file system calls of ours; a system error becomes `ERR_GUEST_STORAGE` and says what it was about. */
export function storing<T>(what: string | (() => string), work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof Error && errorCode(cause) !== undefined && "syscall" in cause) {
      throw storageFailed(typeof what === "string" ? what : what(), cause);
    }
    throw cause;
  }
}

/** As {@link storing}, about an entry. */
export function storingEntry<T>(entry: ByteString, work: () => T): T {
  return storing(() => `entry ${printable(entry)}`, work);
}

const hints: Readonly<Record<string, string>> = {
  ENOSPC: "the target's file system is full (a tmpfs counts as memory); give it more space",
  EDQUOT: "the quota of the target's file system is used up",
  EPERM: "run as root, or unpack with --rootless",
  EACCES: "run as root, or unpack with --rootless, or choose a directory that you may write",
  EINVAL: "where it is a chown, this user namespace does not map the image's ids: map more of them, or unpack with --rootless",
  EROFS: "the target's file system is read-only",
  EMFILE: "raise the limit on open files (ulimit -n)",
  ENOENT: "the directory that shall hold the target must exist, and /proc must be mounted",
};

/** `ERR_GUEST_STORAGE` for a system error. */
export function storageFailed(what: string, cause: Error): GuestError {
  const code = errorCode(cause) ?? "unknown error";
  return new GuestError("ERR_GUEST_STORAGE", {
    message: `${what}: ${code} (${"syscall" in cause && typeof cause.syscall === "string" ? cause.syscall : "file system"})`,
    hint: hints[code] ?? "look at the target's file system",
    details: { errno: code },
    cause,
  });
}
