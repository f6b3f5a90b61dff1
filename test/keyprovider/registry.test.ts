import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { registryOf } from "../../cli/key-provider.ts";
import { connectKbsAdmin, type KbsAdmin } from "../../src/kbs/index.ts";
import { startBench, type Bench } from "../kbs/harness.ts";

describe("keys registered at our service", () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = await startBench();
  });
  afterAll(() => bench.close());

  it("are made once, read back by whoever comes second, and handed to guests", async () => {
    const registry = registryOf(bench.admin);
    const uri = "kbs:///default/image-key/run";
    const first = await registry.register(uri, "perhaps-used");
    expect(await registry.register(uri, "perhaps-used")).toEqual(first);
    expect(Buffer.from(first?.kek ?? [])).toEqual(await bench.guest.fetchResource(uri));
  });

  it("are not replaced by a key file, and a token that may only make them is told so", async () => {
    const registry = registryOf(bench.admin);
    const uri = "kbs:///default/key/file";
    const kek = Buffer.alloc(32, 7);
    expect(await registry.registerGiven(uri, kek)).toEqual({ uri, kek });
    expect(await registry.registerGiven(uri, kek)).toEqual({ uri, kek });
    await expect(registry.registerGiven(uri, Buffer.alloc(32, 8))).rejects.toMatchObject({ code: "ERR_KBS_REGISTRATION_UNPROVED" });
    expect(await bench.guest.fetchResource(uri)).toEqual(kek);
  });
});

describe("keys registered at a service that overwrites, as Trustee does", () => {
  const stored: string[] = [];
  let server: Server;
  let admin: KbsAdmin;
  beforeAll(async () => {
    server = createServer((request, response) => {
      const isPut = request.method === "POST" && (request.url ?? "").startsWith("/kbs/v0/resource/");
      if (isPut) stored.push(request.url ?? "");
      request.resume().once("end", () => response.writeHead(isPut ? 200 : 404).end());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    admin = connectKbsAdmin({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: "token" });
  });
  afterEach(() => stored.splice(0));
  afterAll(async () => {
    await admin.close();
    await new Promise((resolve) => server.close(resolve));
  });

  it("never go over a name that may be used: the image of another run would be lost", async () => {
    expect(await registryOf(admin).register("kbs:///default/key/app", "perhaps-used")).toBeUndefined();
    expect(stored).toEqual([]);
  });

  it("are written where a key file and its name were given: the same key again, as coco_keyprovider does it", async () => {
    const [uri, kek] = ["kbs:///default/key/file", Buffer.alloc(32, 7)];
    expect(await registryOf(admin).registerGiven(uri, kek)).toEqual({ uri, kek });
    expect(stored).toEqual(["/kbs/v0/resource/default/key/file"]);
  });

  it("go to names that nobody uses", async () => {
    expect(await registryOf(admin).register("kbs:///default/key/fresh", "unused")).toMatchObject({ uri: "kbs:///default/key/fresh" });
    expect(stored).toEqual(["/kbs/v0/resource/default/key/fresh"]);
  });
});
