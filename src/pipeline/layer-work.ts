import type { Descriptor } from "../oci/index.ts";
import { newLimiter, runAll, type Limiter } from "../store/index.ts";

/** Does each different layer once, a bounded number at a time, whatever number of manifests names it. */
export class LayerWork {
  readonly #limiter: Limiter;
  readonly #done = new Map<string, Promise<Descriptor>>();
  readonly #stop: () => void;

  constructor(concurrency: number, stop: () => void) {
    this.#limiter = newLimiter(concurrency);
    this.#stop = stop;
  }

  /** The results in the order of the layers; the first failure is thrown when all have ended. */
  async map(
    layers: readonly Descriptor[],
    work: (layer: Descriptor, position: number) => Promise<Descriptor> | undefined,
  ): Promise<readonly Descriptor[]> {
    const results: Descriptor[] = [...layers];
    await runAll(
      layers.map((layer, i) => async () => {
        const key = `${layer.mediaType} ${layer.digest} ${JSON.stringify(layer.annotations ?? {})}`;
        const running = this.#done.get(key) ?? work(layer, i);
        if (running === undefined) return;
        this.#done.set(key, running);
        results[i] = await running;
      }),
      this.#stop,
    );
    return results;
  }

  run<Result>(action: () => Promise<Result>): Promise<Result> {
    return this.#limiter.run(action);
  }
}
