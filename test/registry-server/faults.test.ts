import { connect } from "node:net";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { operations, parseFaultRules, type FaultAction, type FaultRule } from "../../src/registry-server/index.ts";
import { faultNames, loadFaults, randomBytes, sendElsewhere } from "../../registry-fixtures/index.ts";
import { startRegistry, type TestRegistry } from "./client.ts";

const content = randomBytes(3, 5000);
const digest = digestOf(content);
const path = `/v2/a/blobs/${digest}`;

async function withFault(...actions: readonly FaultAction[]): Promise<TestRegistry> {
  const registry = await startRegistry({ faults: [{ match: { operation: "blob.get" }, do: actions }] });
  await registry.pushBlob("a", content);
  return registry;
}

/** The raw answer, to the end of the connection or until it has been silent for a turn of the other side. */
async function raw(
  registry: TestRegistry,
  request = `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
): Promise<{ text: string; failure: unknown }> {
  const [host = "", port = ""] = registry.server.address.split(":");
  const socket = connect(Number(port), host);
  const chunks: Buffer[] = [];
  let failure: unknown;
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("error", (error) => (failure = error));
  socket.write(request);
  await new Promise<void>((resolve) => socket.once("close", () => resolve()));
  return { text: Buffer.concat(chunks).toString("latin1"), failure };
}

function bodyOf(text: string): Buffer {
  return Buffer.from(text.slice(text.indexOf("\r\n\r\n") + 4), "latin1");
}

describe("fault rules", () => {
  it("hit the first request that matches, and only that", async () => {
    await using registry = await withFault({ kind: "respond", status: 503, headers: { "Retry-After": "7" }, body: "busy" });
    const first = await registry.call("GET", path);
    expect([first.status, first.headers["retry-after"], first.body.toString()]).toEqual([503, "7", "busy"]);
    expect((await registry.call("GET", path)).body).toEqual(content);
  });

  it("hit from a number on, so many times, and count only what matches", async () => {
    await using registry = await startRegistry({
      faults: [{ match: { path: "/v2/*/blobs/**", method: "get", from: 2, count: 2 }, do: [{ kind: "status", status: 418 }] }],
    });
    await registry.pushBlob("a", content);
    const statuses: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      await registry.call("HEAD", path);
      statuses.push((await registry.call("GET", path)).status);
    }
    expect(statuses).toEqual([200, 418, 418, 200, 200]);
  });

  it("can be added and cleared while the registry runs", async () => {
    await using registry = await startRegistry();
    registry.server.addFault({ match: { operation: "ping", count: "all" }, do: [{ kind: "respond", status: 500 }] });
    expect((await registry.call("GET", "/v2/")).status).toBe(500);
    registry.server.clearFaults();
    expect((await registry.call("GET", "/v2/")).status).toBe(200);
  });

  it("put the request's path, query and origin into texts", async () => {
    await using registry = await withFault({ kind: "respond", status: 307, headers: { location: "{origin}/other{path}?{query}" } });
    const answer = await registry.call("GET", `${path}?a=1`);
    expect(answer.headers.location).toBe(`${registry.server.url}/other${path}?a=1`);
  });

  it("set and remove headers", async () => {
    await using registry = await withFault({ kind: "headers", set: { "Docker-Content-Digest": "sha256:no", ETag: [] } });
    const { headers, body } = await registry.call("GET", path);
    expect([headers["docker-content-digest"], headers.etag, body]).toEqual(["sha256:no", undefined, content]);
  });

  it("cut a body in order, with the size still promised", async () => {
    await using registry = await withFault({ kind: "truncate", at: 1000, size: "announced" });
    const { text, failure } = await raw(registry);
    expect(text).toMatch(/content-length: 5000/i);
    expect([bodyOf(text), failure]).toEqual([content.subarray(0, 1000), undefined]);
  });

  it("cut a body so that nothing shows it", async () => {
    await using registry = await withFault({ kind: "truncate", at: 1000, size: "adjusted" });
    const answer = await registry.call("GET", path);
    expect([answer.status, answer.headers["content-length"], answer.body]).toEqual([200, "1000", content.subarray(0, 1000)]);
  });

  it("reset a connection in the middle of an answer", async () => {
    await using registry = await withFault({ kind: "reset", afterResponseBytes: 1000 });
    await expect(registry.call("GET", path)).rejects.toThrow(/ECONNRESET|aborted/);
  });

  it("append bytes, flip one, replace all", async () => {
    await using more = await withFault({ kind: "extra", text: "xyz", size: "adjusted" });
    expect((await more.call("GET", path)).body).toEqual(Buffer.concat([content, Buffer.from("xyz")]));
    await using promised = await withFault({ kind: "extra", text: "xyz", size: "announced" });
    expect(bodyOf((await raw(promised)).text).length).toBe(5003);
    await using flipped = await withFault({ kind: "flip", at: 4999 });
    const body = (await flipped.call("GET", path)).body;
    expect([body.subarray(0, 4999), (body[4999] ?? 0) ^ 1]).toEqual([content.subarray(0, 4999), content[4999]]);
    await using replaced = await withFault({ kind: "body", base64: Buffer.from("other").toString("base64") });
    expect((await replaced.call("GET", path)).body.toString()).toBe("other");
  });

  it("compress what nobody asked to be compressed", async () => {
    await using registry = await withFault({ kind: "gzip" });
    const answer = await registry.call("GET", path);
    expect([answer.headers["content-encoding"], gunzipSync(answer.body)]).toEqual(["gzip", content]);
  });

  it("ignore a range, and drip", async () => {
    await using whole = await withFault({ kind: "ignore-range" });
    expect((await whole.call("GET", path, { headers: { range: "bytes=10-" } })).status).toBe(200);
    await using slow = await withFault({ kind: "truncate", at: 20, size: "adjusted" }, { kind: "drip", bytes: 5, everyMs: 1 });
    expect((await slow.call("GET", path)).body).toEqual(content.subarray(0, 20));
  });

  it("do the work and lose the answer", async () => {
    await using registry = await startRegistry({ faults: await loadFaults("upload-answer-lost") });
    const location = await registry.begin("a");
    await expect(registry.call("PUT", `${location}?digest=${digest}`, { body: content })).rejects.toThrow();
    expect((await registry.call("GET", path)).body).toEqual(content);
  });

  it("do the work and answer something else", async () => {
    await using registry = await startRegistry({
      faults: [{ match: { operation: "upload.put" }, do: [{ kind: "answer-instead", status: 500 }] }],
    });
    const location = await registry.begin("a");
    expect((await registry.call("PUT", `${location}?digest=${digest}`, { body: content })).status).toBe(500);
    expect((await registry.call("HEAD", path)).status).toBe(200);
  });

  it("break an upload after so many bytes, which stay", async () => {
    await using registry = await startRegistry({ faults: await loadFaults("upload-reset") });
    const location = await registry.begin("a");
    await expect(registry.call("PATCH", location, { body: content })).rejects.toThrow();
    const { range } = (await registry.call("GET", location)).headers;
    expect(range).toBe("0-999");
    const rest = await registry.call("PUT", `${location}?digest=${digest}`, {
      body: content.subarray(1000),
      headers: { "content-range": "1000-4999" },
    });
    expect(rest.status).toBe(201);
  });

  it("hang and stall until the registry closes", async () => {
    const registry = await startRegistry({
      faults: [
        { match: { operation: "ping" }, do: [{ kind: "hang" }] },
        { match: { operation: "blob.get" }, do: [{ kind: "stall", at: 10 }] },
      ],
    });
    await registry.pushBlob("a", content);
    const hung = raw(registry, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n");
    const stalled = raw(registry);
    // Both are under way once a third request, sent after them, is answered.
    await registry.call("GET", "/v2/a/tags/list");
    await registry.server.close();
    expect((await hung).text).toBe("");
    expect(bodyOf((await stalled).text).length).toBeLessThanOrEqual(10);
  });

  it("speak something else than HTTP", async () => {
    await using registry = await startRegistry({ faults: await loadFaults("not-http") });
    expect((await raw(registry)).text).toMatch(/^SSH-2\.0/);
  });

  it("send a client elsewhere, with the credentials to be caught there", async () => {
    const caught: unknown[] = [];
    await using elsewhere = await startRegistry({ observe: ({ url, headers }) => caught.push([url, headers.authorization]) });
    await using registry = await startRegistry({
      faults: [...sendElsewhere.blobRedirect(elsewhere.server.url), ...sendElsewhere.uploadLocation(elsewhere.server.url)],
    });
    const { location = "" } = (await registry.call("GET", path)).headers;
    expect(location).toBe(`${elsewhere.server.url}${path}`);
    await registry.call("GET", location, { headers: { authorization: "Bearer leaked" } });
    expect(caught).toEqual([[path, "Bearer leaked"]]);
    expect((await registry.call("POST", "/v2/a/blobs/uploads/")).headers.location).toMatch(elsewhere.server.url);
  });
});

describe("fault scripts", () => {
  it("are all well-formed and say where they come from", async () => {
    const names = await faultNames();
    expect(names.length).toBeGreaterThan(25);
    for (const name of names) expect((await loadFaults(name)).length).toBeGreaterThan(0);
  });

  const rule = (more: Record<string, unknown>) => JSON.stringify({ rules: [{ match: {}, do: [], ...more }] });
  it.each([
    ["[]", "no rules"],
    [rule({ extra: 1 }), "an unknown member"],
    [rule({ match: { operation: "blob.steal" } }), "an unknown operation"],
    [rule({ match: { count: "some" } }), "a count that is none"],
    [rule({ match: { from: 0 } }), "counting from zero"],
    [rule({ do: [{ kind: "explode" }] }), "an unknown action"],
    [rule({ do: [{ kind: "flip" }] }), "an action without its member"],
    [rule({ do: [{ kind: "flip", at: -1 }] }), "a negative offset"],
    [rule({ do: [{ kind: "respond", status: 99 }] }), "a status that is none"],
    [rule({ do: [{ kind: "headers", set: { a: 1 } }] }), "a header that is no text"],
    [rule({ do: [{ kind: "hang", ms: 1 }] }), "a member of another action"],
  ])("are refused: %s (%s)", (text) => {
    expect(() => parseFaultRules(text)).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_SERVER_OPTIONS" }));
  });

  it("can name every operation", () => {
    const rules: readonly FaultRule[] = parseFaultRules(rule({ match: { operation: operations }, do: [{ kind: "hang" }] }));
    expect(rules[0]?.match.operation).toEqual(operations);
  });
});
