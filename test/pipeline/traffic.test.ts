import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { serveRegistry, type ObservedRequest, type RegistryServer } from "../../src/registry-server/index.ts";
import { ociseal, type Outcome } from "../cli/run.ts";
import { plainImage } from "../layer/layout.ts";

/*
 * What goes over the wire: a range of a layer costs its chunks, and changing recipients moves no layer. In numbers of
 * bytes and requests, not in time.
 */

const megabyte = 1 << 20;
let folder: string;
let registry: RegistryServer;
let host: string;
let seen: ObservedRequest[] = [];
let content: Buffer;

async function done(...args: readonly string[]): Promise<Outcome> {
  const outcome = await ociseal(args, { cwd: folder, encoding: "latin1" });
  expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
  return outcome;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-traffic-"));
  content = randomBytes(24 * megabyte);
  plainImage(join(folder, "plain"), [content]);
  registry = await serveRegistry({
    listen: { host: "127.0.0.1", port: 0 },
    storage: { kind: "memory" },
    observe: (request) => seen.push(request),
  });
  host = registry.url.replace("http://", "");
  for (const name of ["alice", "bob"]) {
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    await writeFile(join(folder, `${name}.pub`), publicKey.export({ type: "spki", format: "pem" }));
    await writeFile(join(folder, `${name}.key`), privateKey.export({ type: "pkcs8", format: "pem" }));
  }
  await done("encrypt", "oci:plain:it", `${host}/app:gcm`, "-r", "jwe:alice.pub");
  await done("encrypt", "oci:plain:it", `${host}/app:ctr`, "-r", "jwe:alice.pub", "--profile", "ocicrypt");
});

afterAll(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  seen = [];
});

const blobs = (method: string): readonly ObservedRequest[] => seen.filter((one) => one.method === method && one.url.includes("/blobs/"));

/** What the ranges that were asked for have in bytes; infinite when a blob was asked for whole. */
function askedFor(): number {
  return blobs("GET").reduce((sum, { headers }) => {
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
    return start === undefined || end === undefined ? Infinity : sum + Number(end) - Number(start) + 1;
  }, 0);
}

describe("a range of a layer", () => {
  it.each([
    // Chunks of 16 KiB and the header, and segments of at least 1 MiB.
    ["gcm", 200_000],
    ["ctr", 2.1 * megabyte],
  ] as const)("is read without the rest of it: %s", async (tag, most) => {
    // The tar's header and gzip's overhead come first; what is asked for is of the stored layer.
    const whole = await done("cat", `${host}/app:${tag}`, "-k", "alice.key", "--layer", "0");
    seen = [];
    const part = await done("cat", `${host}/app:${tag}`, "-k", "alice.key", "--layer", "0", "--range", "9000000-9099999");
    expect(part.stdout === whole.stdout.slice(9_000_000, 9_100_000)).toBe(true);
    expect(askedFor()).toBeGreaterThan(100_000);
    expect(askedFor()).toBeLessThan(most);
  });
});

describe("changing recipients", () => {
  const change = ["-k", "alice.key", "--add", "jwe:bob.pub"];
  /** Uploads of a megabyte and more, by their declared size. */
  const uploads = (): readonly ObservedRequest[] =>
    seen.filter(({ method, headers }) => (method === "PUT" || method === "PATCH") && Number(headers["content-length"] ?? 0) >= megabyte);

  it.each(["gcm", "ctr"])("in place asks for no blob and sends none: %s", async (tag) => {
    await done("rewrap", `${host}/app:${tag}`, ...change);
    expect(blobs("GET")).toEqual([]);
    expect(seen.filter(({ url }) => url.includes("/blobs/uploads"))).toEqual([]);
  });

  it("into another repository of the registry mounts the layers", async () => {
    await done("rewrap", `${host}/app:gcm`, `${host}/other:gcm`, ...change);
    expect(seen.filter(({ method, url }) => method === "POST" && url.includes("mount=")).length).toBeGreaterThan(0);
    expect([...blobs("GET"), ...uploads()]).toEqual([]);
    await done("decrypt", `${host}/other:gcm`, "oci:open:it", "-k", "bob.key");
  });
});
