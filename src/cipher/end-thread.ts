import type { Worker } from "node:worker_threads";

/**
 * Has a thread end by itself, and waits for that; `ask` sends the message on which it lets go of everything.
 *
 * `worker.terminate()` is no way to end a thread that inflates. It stops the thread's code anywhere, also between the making
 * of a zlib stream and its first setting, and then Node.js 22 and 24 abort the whole process ("close before init" in
 * node_zlib.cc). There is no time after which a thread is terminated all the same: one that is asked does nothing that could
 * take for ever, and on a machine that stood still for a while it would be the wrong one.
 */
export async function endThread(worker: Worker, ask: () => void): Promise<void> {
  // One that has ended already says so no more.
  if (worker.threadId === -1) return;
  const exited = new Promise((resolve) => worker.once("exit", resolve));
  worker.ref();
  ask();
  await exited;
}
