import { spawn } from "node:child_process";
import { once } from "node:events";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { PullOutput } from "../../src/guest/index.ts";
import { sourceThreadFlags } from "../node-flags.ts";
import { broker, image, testFolder } from "./images.ts";
import { layoutOf } from "./real-images.ts";
import { tar, type RawEntry } from "./tar-bytes.ts";
import { isRoot, treeOf } from "./trees.ts";

const folder = testFolder();
const child = join(import.meta.dirname, "pull-child.ts");

/** How often a pull is killed; `KILLS=200` is what the room promises, and takes minutes. */
const kills = Number(process.env["KILLS"] ?? 6);

const outputs: readonly PullOutput[] = isRoot ? ["rootfs", "bundle", "overlay", "oci"] : ["rootfs", "bundle", "oci"];

/** Pulls in a process of its own. With a delay it is killed so long after it began, unless it has ended before. */
async function pullKilled(
  layout: string,
  output: PullOutput,
  delayMs?: number,
): Promise<{ readonly outcome: "killed" | "done" | "failed"; readonly tookMs: number }> {
  const args = [
    ...sourceThreadFlags,
    child,
    layout,
    folder.path("place/out"),
    output,
    folder.path("cache"),
    folder.path("place/record.json"),
  ];
  const started = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(started, "exit");
  let began = 0;
  for await (const line of createInterface({ input: started.stdout })) {
    if (line !== "started") continue;
    began = performance.now();
    if (delayMs !== undefined) {
      await wait(delayMs);
      started.kill("SIGKILL");
    }
  }
  const [code, signal] = (await exited) as [number | null, string | null];
  return { outcome: signal === "SIGKILL" ? "killed" : code === 0 ? "done" : "failed", tookMs: performance.now() - began };
}

/** Names of blobs say their content; times that are not the image's are left out. */
function contentOf(output: PullOutput): readonly string[] {
  const path = folder.path("place/out");
  if (output === "oci") return readdirSync(path, { recursive: true, encoding: "utf8" }).toSorted();
  return treeOf(path).map((line) => line.replace(/^((?:|\/config\.json|\/overlay\.json) [0-7]+ \d+ \d+) \d+/, "$1"));
}

/** What a killed process may leave beside the target: its staging, and a record under a name of its own. */
const temporary = /^\.out\.ociseal-|^record\.json\.[0-9a-f]+\.tmp$/;

describe("a pull that is killed", () => {
  it(
    `leaves the target absent or complete at ${kills} random moments, and the next pull finishes`,
    { timeout: 20_000 + kills * 5000 },
    async () => {
      const files = Array.from({ length: 150 }, (_, i): RawEntry => ({ name: `d${i % 7}/f${i}`, data: randomBytes(20_000) }));
      const layers = [
        tar(...files),
        tar({ name: ".wh.d0" }, { name: "d1/.wh..wh..opq" }, ...files.slice(0, 40)),
        // Large enough to be deciphered and inflated in threads.
        tar({ name: "large", data: randomBytes(9 << 20) }, { name: "last", data: "x" }),
      ];
      const made = await image({ layers, compression: "gzip", seal: broker().seal("AES_256_GCM_C2SP_CHUNKED_V1") });
      const layout = await layoutOf(made, folder.path("layout"));
      mkdirSync(folder.path("place"));
      const clear = () => {
        for (const path of ["place/out", "place/record.json"]) rmSync(folder.path(path), { recursive: true, force: true });
      };
      const whole = new Map<PullOutput, readonly string[]>();
      let longestMs = 0;
      for (const output of outputs) {
        const { outcome, tookMs } = await pullKilled(layout, output);
        expect(outcome).toBe("done");
        longestMs = Math.max(longestMs, tookMs);
        whole.set(output, contentOf(output));
        clear();
      }
      const seen = { killed: 0, absent: 0, complete: 0 };
      // A pull that ends before its moment was not killed, and does not count.
      for (let turn = 0; seen.killed < kills && turn < 4 * kills; turn += 1) {
        const output = outputs[turn % outputs.length] ?? "rootfs";
        if (turn % 3 === 0) rmSync(folder.path("cache"), { recursive: true, force: true });
        const { outcome } = await pullKilled(layout, output, Math.random() * longestMs);
        expect(outcome).not.toBe("failed");
        if (outcome === "killed") seen.killed += 1;
        const complete = existsSync(folder.path("place/out"));
        seen[complete ? "complete" : "absent"] += 1;
        expect(readdirSync(folder.path("place")).filter((name) => !temporary.test(name) && name !== "record.json")).toEqual(
          complete ? ["out"] : [],
        );
        // No target without its record.
        expect(existsSync(folder.path("place/record.json")) || !complete).toBe(true);
        expect(complete ? "done" : (await pullKilled(layout, output)).outcome).toBe("done");
        expect(contentOf(output)).toEqual(whole.get(output));
        expect(complete ? [] : readdirSync(folder.path("place")).filter((name) => name.startsWith("."))).toEqual([]);
        clear();
        for (const name of readdirSync(folder.path("place"))) rmSync(folder.path("place", name), { recursive: true, force: true });
      }
      if (kills > 20) process.stderr.write(`${JSON.stringify(seen)}\n`);
      expect(seen.killed).toBe(kills);
    },
  );
});
