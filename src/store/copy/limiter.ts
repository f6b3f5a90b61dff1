/** Runs at most a number of actions at once, in the order they came. */
export interface Limiter {
  run<Result>(action: () => Promise<Result>): Promise<Result>;
}

/** @param limit - at least 1. */
export function newLimiter(limit: number): Limiter {
  let free = Math.max(1, Math.trunc(limit));
  const waiting: (() => void)[] = [];
  return {
    async run(action) {
      if (free > 0) free -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await action();
      } finally {
        const next = waiting.shift();
        if (next === undefined) free += 1;
        else next();
      }
    },
  };
}

/**
 * Runs all, and ends when the last has ended: nothing goes on in the background after a failure. The first failure is
 * thrown; `stop` is called at it, to abort the others.
 */
export async function runAll(actions: readonly (() => Promise<void>)[], stop: () => void): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  await Promise.all(
    actions.map(async (action) => {
      try {
        if (failure === undefined) await action();
      } catch (error) {
        failure ??= { error };
        stop();
      }
    }),
  );
  if (failure !== undefined) throw failure.error;
}
