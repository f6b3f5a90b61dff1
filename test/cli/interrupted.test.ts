import { randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { copyGraph, openLayout } from "../../src/store/index.ts";
import { image } from "../guest/images.ts";
import { tar } from "../guest/tar-bytes.ts";
import { cleanEnvironment, ociseal, program, startServer } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "ociseal-interrupted-"));
let registry: Awaited<ReturnType<typeof startServer>>;
let name: string;

beforeAll(async () => {
  registry = await startServer(["registry", "serve", "--listen", "127.0.0.1:0"], { cwd: folder });
  name = `${(registry.ready["listening"] ?? "").replace("http://", "")}/app:sealed`;
  // Large enough for the threads that decipher and inflate.
  const { store, root } = await image({ layers: [tar({ name: "big", data: randomBytes(12 << 20) })], compression: "gzip" });
  const layout = await openLayout({ path: join(folder, "plain"), mode: "write", durability: "none" });
  await copyGraph({ from: store, to: layout, root, tags: ["app"] });
  await layout.close();
  await ociseal(["key", "generate", "ec", "--out", "guest"], { cwd: folder });
  const sealed = await ociseal(["encrypt", "-r", "jwe:guest.pub", "oci:plain:app", name], { cwd: folder });
  expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
});

afterAll(async () => {
  await registry.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Pulls slowly, and sends the signal once some MiB of the layer have come. */
async function pullUntil(signal: NodeJS.Signals, target: string): Promise<unknown> {
  const args = ["pull", "--insecure-accept-unsigned", "-k", "guest.key", "--rootless", "--record", `${target}.json`];
  const child = spawn(process.execPath, [program, ...args, "--limit-rate", "4M", "--progress", "json", name, target], {
    cwd: folder,
    env: cleanEnvironment(),
    stdio: ["ignore", "ignore", "pipe"],
    timeout: 50_000,
    killSignal: "SIGKILL",
  });
  const ended = once(child, "exit");
  let moved = 0;
  for await (const line of createInterface({ input: child.stderr })) {
    const event = line.startsWith("{") ? (JSON.parse(line) as { readonly kind: string; readonly size?: number }) : undefined;
    if (event?.kind === "moved") moved += event.size ?? 0;
    if (moved < 3 << 20) continue;
    child.kill(signal);
    // A second one would end it at once, as somebody wants who asks twice.
    moved = Number.NEGATIVE_INFINITY;
  }
  const [code] = (await ended) as [number | null];
  return code;
}

describe("a pull that is interrupted in the middle of a large layer", () => {
  it.each(["SIGINT", "SIGTERM"] as const)("ends with 130 and leaves nothing: %s", async (signal) => {
    expect(await pullUntil(signal, `to-${signal}`)).toBe(130);
    expect(readdirSync(folder).filter((entry) => entry.includes(`to-${signal}`))).toEqual([]);
  });
});
