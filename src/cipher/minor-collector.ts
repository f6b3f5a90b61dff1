import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Between collections in a cipher thread: bytes of output that went by. */
const interval = 4 << 20;

/**
 * Collects young garbage as bytes go by; for a thread of our own.
 *
 * Every chunk that a cipher works on makes a buffer outside the heap. The engine counts those only from 32 MiB on, so
 * without this they wander through memory, out of the cache: measured, a third more CPU time and 30 to 60 MiB per thread.
 */
export function minorCollector(): (size: number) => void {
  const collect = collector();
  let passed = 0;
  return (size) => {
    passed += size;
    if (passed < interval) return;
    passed = 0;
    collect?.({ type: "minor" });
  };
}

function collector(): ((options: { readonly type: "minor" }) => void) | undefined {
  setFlagsFromString("--expose-gc");
  const found: unknown = runInNewContext("typeof gc === 'function' ? gc : undefined");
  setFlagsFromString("--no-expose-gc");
  return typeof found === "function" ? (found as (options: { readonly type: "minor" }) => void) : undefined;
}
