import { setFlagsFromString } from "node:v8";

/**
 * Milliseconds until the flag is set: by then a command has loaded what it uses, and started its threads. Node.js brings its
 * own modules compiled, and V8 takes them only with the flags it knows: with another one set meanwhile, each start of a
 * thread compiles them anew, and so does what this one loads (measured: 35 ms for either).
 */
const settled = 200;

/** Sets a flag of V8's garbage collector for the time when bytes pass through. */
export function tuneCollector(flag: string): void {
  setTimeout(() => setFlagsFromString(flag), settled).unref();
}
