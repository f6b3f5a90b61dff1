import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { array, assert, constantFrom, nat, oneof, option, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { digestOf, isDigest } from "../../src/bytes/index.ts";
import { parseRange } from "../../src/registry-server/range.ts";
import { isRepositoryName, isTag, parseRoute } from "../../src/registry-server/route.ts";
import { startRegistry, storageKinds, type TestRegistry } from "./client.ts";

async function open(registry: TestRegistry): Promise<Socket> {
  const [host = "", port = ""] = registry.server.address.split(":");
  const socket = connect(Number(port), host);
  await once(socket, "connect");
  return socket;
}

/** Everything that the server says until it closes the connection. */
async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("error", () => undefined);
  if (!socket.destroyed) await once(socket, "close");
  return Buffer.concat(chunks).toString("latin1");
}

describe("names and paths", () => {
  it.each([
    "/v2/../../etc/passwd/blobs/uploads/",
    "/v2/a/../b/tags/list",
    "/v2/%2e%2e/tags/list",
    "/v2/a%2Fb/tags/list",
    "/v2/a//b/tags/list",
    "/v2/_pending/tags/list",
    "/v2/a+b/tags/list",
    "/v2/A/tags/list",
    "/v2/a./tags/list",
    `/v2/${"a".repeat(256)}/tags/list`,
    "/v2/a%/tags/list",
    "/v2/a%00/tags/list",
  ])("refuses the path %s", async (path) => {
    await using registry = await startRegistry({ kind: "directory" });
    const answer = await registry.call("GET", path);
    expect([400, 404]).toContain(answer.status);
  });

  it("takes a name of 255 characters on disk", async () => {
    await using registry = await startRegistry({ kind: "directory" });
    const name = `${"a/".repeat(127)}b`;
    await registry.pushBlob(name, "x");
    expect((await registry.call("GET", `/v2/${name}/tags/list`)).status).toBe(200);
  });

  it("lets nothing through a route that is not of its grammar", () => {
    const segment = oneof(
      string({ maxLength: 12 }),
      constantFrom("blobs", "uploads", "manifests", "tags", "list", "..", "a", "%2e%2e", "%2F", `sha256:${"a".repeat(64)}`),
    );
    assert(
      property(array(segment, { maxLength: 8 }), (segments) => {
        let route;
        try {
          route = parseRoute(`/v2/${segments.join("/")}`);
        } catch {
          return;
        }
        if (route === undefined) return;
        const sound =
          (!("name" in route) || isRepositoryName(route.name)) &&
          (!("digest" in route) || isDigest(route.digest)) &&
          (route.kind !== "manifest" || route.reference.kind !== "tag" || isTag(route.reference.tag)) &&
          (route.kind !== "upload" || /^[0-9a-f-]{36}$/.test(route.id));
        expect(sound).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it("cuts every range to the content", () => {
    assert(
      property(nat(5000), nat(6000), option(nat(6000)), (size, first, last) => {
        const range = parseRange(`bytes=${first}-${last ?? ""}`, size);
        if (range.kind !== "part") return;
        expect(range.start).toBe(first);
        expect(range.end).toBeGreaterThan(range.start);
        expect(range.end).toBeLessThanOrEqual(size);
      }),
    );
  });
});

describe.each(storageKinds)("uploads on %s storage", (kind) => {
  it("are limited in number, and are free again after a while", async () => {
    let now = 0;
    await using registry = await startRegistry({ kind, limits: { maxUploads: 3, uploadIdleMs: 1000 }, now: () => now });
    const locations = [await registry.begin("a"), await registry.begin("a"), await registry.begin("a")];
    const refused = await registry.call("POST", "/v2/a/blobs/uploads/");
    expect([refused.status, refused.code(), refused.headers["retry-after"]]).toEqual([429, "TOOMANYREQUESTS", "30"]);
    now = 800;
    await registry.call("PATCH", locations[0] ?? "", { body: "still here" });
    now = 1500;
    await registry.begin("a");
    expect((await registry.call("GET", locations[0] ?? "")).status).toBe(204);
    expect((await registry.call("GET", locations[1] ?? "")).status).toBe(404);
  });

  it("are limited in size, said or not, in one body or several", async () => {
    await using registry = await startRegistry({ kind, limits: { maxBlobBytes: 1000 } });
    const body = Buffer.alloc(1001);
    const query = `?digest=${digestOf(body)}`;
    expect((await registry.call("POST", `/v2/a/blobs/uploads/${query}`, { body })).status).toBe(413);
    expect((await registry.call("PUT", `${await registry.begin("a")}${query}`, { body, chunked: true })).status).toBe(413);
    const location = await registry.begin("a");
    expect((await registry.call("PATCH", location, { body: body.subarray(0, 600) })).status).toBe(202);
    expect((await registry.call("PATCH", location, { body: body.subarray(0, 600) })).status).toBe(413);
    expect((await registry.call("GET", location)).headers.range).toBe("0-599");
  });

  it("keep what a broken connection delivered, and go on from there", async () => {
    const patched = Promise.withResolvers<void>();
    await using registry = await startRegistry({ kind, observe: ({ method }) => method === "PATCH" && patched.resolve() });
    const content = Buffer.alloc(300_000, "abc");
    const location = await registry.begin("a");
    const socket = await open(registry);
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n`);
    socket.write(content.subarray(0, 100_000));
    await patched.promise;
    // The question takes the session over from the request that is still open: its client has given it up.
    const { range = "" } = (await registry.call("GET", location)).headers;
    await readAll(socket);
    const start = range === "0-0" ? 0 : Number(range.split("-")[1]) + 1;
    expect(start).toBeLessThanOrEqual(100_000);
    const rest = await registry.call("PUT", `${location}?digest=${digestOf(content)}`, {
      body: content.subarray(start),
      headers: { "content-range": `${start}-299999` },
    });
    expect(rest.status).toBe(201);
    expect((await registry.call("GET", `/v2/a/blobs/${digestOf(content)}`)).body).toEqual(content);
  });

  it("end the older of two requests on one session", async () => {
    const patched = Promise.withResolvers<void>();
    await using registry = await startRegistry({ kind, observe: ({ method }) => method === "PATCH" && patched.resolve() });
    const location = await registry.begin("a");
    const socket = await open(registry);
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n`);
    await patched.promise;
    const ended = readAll(socket);
    expect((await registry.call("DELETE", location)).status).toBe(204);
    expect(await ended).toBe("");
    expect((await registry.call("GET", location)).status).toBe(404);
  });

  it("of a body that is refused in the middle get an answer, not a broken connection", async () => {
    await using registry = await startRegistry({ kind, limits: { maxBlobBytes: 1000 } });
    const socket = await open(registry);
    const answer = readAll(socket);
    const location = await registry.begin("a");
    socket.write(
      `PATCH ${location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n${"x".repeat(2000)}\r\n`,
    );
    expect(await answer).toMatch(/^HTTP\/1\.1 413/);
  });
});

describe("connections", () => {
  it("are closed when a header does not come, or nothing moves any more", async () => {
    await using registry = await startRegistry({ limits: { idleMs: 300 } });
    const silent = await open(registry);
    const body = await open(registry);
    const location = await registry.begin("a");
    body.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc`);
    await Promise.all([readAll(silent), readAll(body)]);
    expect((await registry.call("GET", location)).status).toBe(204);
  });

  it("get 431 for a header over 64 KiB, and the next one is served", async () => {
    await using registry = await startRegistry();
    const socket = await open(registry);
    const answer = readAll(socket);
    socket.write(`GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${"x".repeat(70_000)}\r\n\r\n`);
    expect(await answer).toContain("431");
    expect((await registry.call("GET", "/v2/", { headers: { "x-long": "x".repeat(40_000) } })).status).toBe(200);
  });

  it("get an answer before the body when the body is not wanted", async () => {
    await using registry = await startRegistry({ auth: { kind: "basic", users: { a: "b" } } });
    const socket = await open(registry);
    socket.write("PUT /v2/a/manifests/v HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n");
    const answer = await readAll(socket);
    expect(answer).toMatch(/^HTTP\/1\.1 401/);
    expect(answer).not.toContain("100 Continue");
  });

  it("get 100 Continue when it is", async () => {
    await using registry = await startRegistry();
    const location = await registry.begin("a");
    const socket = await open(registry);
    const body = "hello";
    socket.write(
      `PUT ${location}?digest=${digestOf(Buffer.from(body))} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`,
    );
    const [first] = (await once(socket, "data")) as [Buffer];
    expect(first.toString()).toContain("100 Continue");
    socket.write(body);
    expect(await readAll(socket)).toContain("201 Created");
  });

  it("do not believe a Host header that is none", async () => {
    await using registry = await startRegistry({ auth: { kind: "token", users: {} } });
    const answer = await registry.call("GET", "/v2/", { headers: { host: 'evil"/><x' } }).catch(() => undefined);
    expect(answer?.headers["www-authenticate"] ?? "").not.toContain("evil");
  });

  it("are all closed by close, also those in the middle of something", async () => {
    const registry = await startRegistry();
    const location = await registry.begin("a");
    const socket = await open(registry);
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc`);
    const ended = readAll(socket);
    await registry.server.close();
    await registry.server.close();
    await ended;
    await expect(registry.call("GET", "/v2/")).rejects.toThrow(/ECONNREFUSED/);
  });

  it("say what is wrong with an address that is taken", async () => {
    await using registry = await startRegistry();
    const [host = "", port = ""] = registry.server.address.split(":");
    await expect(startRegistry({ listen: { host, port: Number(port) } })).rejects.toMatchObject({
      code: "ERR_REGISTRY_SERVER_LISTEN",
      category: "io",
    });
  });
});
