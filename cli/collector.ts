import { setFlagsFromString } from "node:v8";

/**
 * Milliseconds until the flags are set: by then a command has loaded what it uses, and started its threads. Node.js brings its
 * own modules compiled, and V8 takes them only while its flags are those of the build: with a flag set, each start of the
 * process and of a thread compiles them anew (measured: 35 ms of the first, 35 of the second).
 */
const settled = 200;

/** Sets flags of V8's garbage collector for the time when bytes pass through. */
export function tuneCollector(flags: readonly string[]): void {
  setTimeout(() => flags.forEach(setFlagsFromString), settled).unref();
}

/**
 * Blobs pass through as short-lived buffers: a young generation that stays small keeps them in the processor's cache and the
 * process a third smaller (measured with 1 GiB: 106 instead of 170 MiB). Freeing them on other threads, which the cipher's
 * threads would have to wait for, costs a twentieth of the time of encrypting.
 */
export const smallYoungGeneration: readonly string[] = ["--semi-space-growth-factor=1", "--no-concurrent-array-buffer-sweeping"];
