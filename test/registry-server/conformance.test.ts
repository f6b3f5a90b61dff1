import { describe, expect, it } from "vitest";
import { digestOf, type DigestAlgorithm } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { randomBytes } from "../../registry-fixtures/index.ts";
import { json, startRegistry, storageKinds } from "./client.ts";

/** Requirement by requirement what the upstream conformance suite asks. Sections are those of the OCI distribution-spec. */
describe.each(storageKinds)("distribution-spec on %s storage", { concurrent: true }, (kind) => {
  const content = randomBytes(7, 3000);
  const digest = digestOf(content);
  const missing = digestOf(Buffer.from("missing"));

  describe("determining support", () => {
    it("answers 200 to the base endpoint, with and without a slash", async () => {
      await using registry = await startRegistry({ kind });
      for (const path of ["/v2/", "/v2"]) expect((await registry.call("GET", path)).status).toBe(200);
    });

    it("answers an error document with a code to what it refuses", async () => {
      await using registry = await startRegistry({ kind });
      const answer = await registry.call("GET", "/v2/UPPER/tags/list");
      expect(answer.status).toBe(400);
      expect(answer.headers["content-type"]).toBe("application/json");
      expect(answer.json()).toMatchObject({ errors: [{ code: "NAME_INVALID" }] });
    });

    it("names the allowed methods when it refuses one", async () => {
      await using registry = await startRegistry({ kind });
      const answer = await registry.call("DELETE", "/v2/a/tags/list");
      expect([answer.status, answer.headers.allow, answer.code()]).toEqual([405, "GET, HEAD", "UNSUPPORTED"]);
    });
  });

  describe("pushing blobs", () => {
    it("stores a blob by a single POST", async () => {
      await using registry = await startRegistry({ kind });
      const answer = await registry.call("POST", `/v2/a/b/blobs/uploads/?digest=${digest}`, { body: content });
      expect(answer.status).toBe(201);
      expect(answer.headers["docker-content-digest"]).toBe(digest);
      expect(answer.headers.location).toBe(`/v2/a/b/blobs/${digest}`);
      expect((await registry.call("GET", answer.headers.location ?? "")).body).toEqual(content);
    });

    it("stores a blob by POST and PUT", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      const answer = await registry.call("PUT", `${location}?digest=${digest}`, { body: content });
      expect([answer.status, answer.headers.location]).toEqual([201, `/v2/a/blobs/${digest}`]);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`)).body).toEqual(content);
    });

    it("stores a blob whose length nobody said", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      const patched = await registry.call("PATCH", location, { body: content, chunked: true });
      expect([patched.status, patched.headers.range]).toEqual([202, "0-2999"]);
      expect((await registry.call("PUT", `${patched.headers.location}?digest=${digest}`)).status).toBe(201);
    });

    it("stores a blob in chunks, the last one in a PATCH", async () => {
      await using registry = await startRegistry({ kind });
      let location = await registry.begin("a");
      for (const start of [0, 1000, 2000]) {
        const headers = { "content-range": `${start}-${start + 999}`, "content-type": "application/octet-stream" };
        const answer = await registry.call("PATCH", location, { body: content.subarray(start, start + 1000), headers });
        expect([answer.status, answer.headers.range]).toEqual([202, `0-${start + 999}`]);
        location = answer.headers.location ?? "";
      }
      expect((await registry.call("PUT", `${location}?digest=${digest}`)).status).toBe(201);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`)).body).toEqual(content);
    });

    it("stores a blob in chunks, the last one in the PUT", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      await registry.call("PATCH", location, { body: content.subarray(0, 2000), headers: { "content-range": "0-1999" } });
      const answer = await registry.call("PUT", `${location}?digest=${digest}`, {
        body: content.subarray(2000),
        headers: { "content-range": "2000-2999" },
      });
      expect(answer.status).toBe(201);
    });

    it.each(["PATCH", "PUT"])("answers 416 to a chunk out of order in a %s, and says where to go on", async (method) => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      await registry.call("PATCH", location, { body: content.subarray(0, 1000), headers: { "content-range": "0-999" } });
      const query = method === "PUT" ? `?digest=${digest}` : "";
      const wrong = await registry.call(method, `${location}${query}`, {
        body: content.subarray(2000),
        headers: { "content-range": "2000-2999" },
      });
      expect([wrong.status, wrong.headers.range, wrong.headers.location]).toEqual([416, "0-999", location]);
      const status = await registry.call("GET", location);
      expect([status.status, status.headers.range, status.headers.location]).toEqual([204, "0-999", location]);
      const rest = await registry.call("PUT", `${location}?digest=${digest}`, {
        body: content.subarray(1000),
        headers: { "content-range": "1000-2999" },
      });
      expect(rest.status).toBe(201);
    });

    it("answers 416 to a replayed chunk", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      const chunk = { body: content.subarray(0, 1000), headers: { "content-range": "0-999" } };
      expect((await registry.call("PATCH", location, chunk)).status).toBe(202);
      expect((await registry.call("PATCH", location, chunk)).status).toBe(416);
    });

    it("refuses a malformed Content-Range and one that disagrees with the body", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      const body = content.subarray(0, 10);
      expect((await registry.call("PATCH", location, { body, headers: { "content-range": "bytes 0-9/*" } })).code()).toBe(
        "BLOB_UPLOAD_INVALID",
      );
      expect((await registry.call("PATCH", location, { body, headers: { "content-range": "0-10" } })).code()).toBe("SIZE_INVALID");
      const longer = { body, chunked: true, headers: { "content-range": "0-4" } };
      expect((await registry.call("PATCH", location, longer)).code()).toBe("SIZE_INVALID");
      const shorter = { body, chunked: true, headers: { "content-range": "0-14" } };
      expect((await registry.call("PATCH", location, shorter)).code()).toBe("SIZE_INVALID");
      expect((await registry.call("GET", location)).headers.range).toBe("0-0");
      const right = await registry.call("PUT", `${location}?digest=${digestOf(body)}`, { body, headers: { "content-range": "0-9" } });
      expect(right.status).toBe(201);
    });

    it("refuses content with another digest in every way of pushing, and keeps nothing of it", async () => {
      await using registry = await startRegistry({ kind });
      const body = Buffer.concat([content, Buffer.from("oh no")]);
      const single = await registry.call("POST", `/v2/a/blobs/uploads/?digest=${digest}`, { body });
      const put = await registry.call("PUT", `${await registry.begin("a")}?digest=${digest}`, { body });
      const location = await registry.begin("a");
      await registry.call("PATCH", location, { body });
      const chunked = await registry.call("PUT", `${location}?digest=${digest}`);
      for (const answer of [single, put, chunked]) expect([answer.status, answer.code()]).toEqual([400, "DIGEST_INVALID"]);
      expect((await registry.call("HEAD", `/v2/a/blobs/${digest}`)).status).toBe(404);
      expect((await registry.call("GET", location)).status).toBe(404);
    });

    it.each(["sha256:baddigeststring", "md5:d41d8cd98f00b204e9800998ecf8427e", `sha256:${"A".repeat(64)}`, "nonsense"])(
      "refuses the digest %s",
      async (bad) => {
        await using registry = await startRegistry({ kind });
        const answer = await registry.call("POST", `/v2/a/blobs/uploads/?digest=${bad}`, { body: content });
        expect([answer.status, answer.code()]).toEqual([400, "DIGEST_INVALID"]);
        expect((await registry.call("GET", `/v2/a/blobs/${bad}`)).status).toBe(400);
      },
    );

    it("wants a digest in the closing PUT", async () => {
      await using registry = await startRegistry({ kind });
      expect((await registry.call("PUT", await registry.begin("a"), { body: content })).code()).toBe("DIGEST_INVALID");
    });

    it.each(["", "{}"])("stores the well-known blob %j", async (text) => {
      await using registry = await startRegistry({ kind });
      for (const algorithm of ["sha256", "sha512"] as const satisfies readonly DigestAlgorithm[]) {
        const known = digestOf(Buffer.from(text), algorithm);
        expect((await registry.call("PUT", `${await registry.begin("a")}?digest=${known}`, { body: text })).status).toBe(201);
        const answer = await registry.call("GET", `/v2/a/blobs/${known}`);
        expect([answer.status, answer.headers["content-length"], answer.body.toString()]).toEqual([200, String(text.length), text]);
      }
    });

    it.each(["", "?digest-algorithm=sha512"])("stores a sha512 blob (session begun with %j)", async (query) => {
      await using registry = await startRegistry({ kind });
      const long = digestOf(content, "sha512");
      const location = await registry.begin("a", query);
      await registry.call("PATCH", location, { body: content.subarray(0, 1000) });
      const answer = await registry.call("PUT", `${location}?digest=${long}`, { body: content.subarray(1000) });
      expect([answer.status, answer.headers["docker-content-digest"]]).toEqual([201, long]);
      expect((await registry.call("GET", `/v2/a/blobs/${long}`)).body).toEqual(content);
    });

    it("refuses a session for an unknown algorithm", async () => {
      await using registry = await startRegistry({ kind });
      expect((await registry.call("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5")).code()).toBe("DIGEST_INVALID");
    });

    it("cancels an upload", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      await registry.call("PATCH", location, { body: content });
      expect((await registry.call("DELETE", location)).status).toBe(204);
      const answer = await registry.call("PUT", `${location}?digest=${digest}`);
      expect([answer.status, answer.code()]).toEqual([404, "BLOB_UPLOAD_UNKNOWN"]);
    });

    it("knows a session only in its own repository", async () => {
      await using registry = await startRegistry({ kind });
      const location = await registry.begin("a");
      expect((await registry.call("GET", location.replace("/v2/a/", "/v2/b/"))).status).toBe(404);
    });

    it("takes the same blob twice", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      await registry.pushBlob("a", content);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`)).body).toEqual(content);
    });
  });

  describe("mounting blobs", () => {
    it("mounts from another repository", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("from/here", content);
      const answer = await registry.call("POST", `/v2/to/there/blobs/uploads/?mount=${digest}&from=from/here`);
      expect([answer.status, answer.headers.location]).toEqual([201, `/v2/to/there/blobs/${digest}`]);
      expect((await registry.call("GET", `/v2/to/there/blobs/${digest}`)).body).toEqual(content);
    });

    it("mounts without knowing from where", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("from/here", content);
      expect((await registry.call("POST", `/v2/to/blobs/uploads/?mount=${digest}`)).status).toBe(201);
    });

    it("begins an upload instead when the blob is not there", async () => {
      await using registry = await startRegistry({ kind });
      for (const query of [`mount=${digest}`, `mount=${digest}&from=nowhere`]) {
        const answer = await registry.call("POST", `/v2/to/blobs/uploads/?${query}`);
        expect(answer.status).toBe(202);
        expect((await registry.call("PUT", `${answer.headers.location}?digest=${digest}`, { body: content })).status).toBe(201);
        await registry.call("DELETE", `/v2/to/blobs/${digest}`);
      }
    });

    it("keeps a mounted blob when the source deletes it", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      await registry.call("POST", `/v2/b/blobs/uploads/?mount=${digest}&from=a`);
      expect((await registry.call("DELETE", `/v2/a/blobs/${digest}`)).status).toBe(202);
      expect((await registry.call("GET", `/v2/b/blobs/${digest}`)).body).toEqual(content);
    });
  });

  describe("pulling blobs", () => {
    it("answers HEAD with size and digest and no body", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      const answer = await registry.call("HEAD", `/v2/a/blobs/${digest}`);
      expect([answer.status, answer.headers["content-length"], answer.headers["docker-content-digest"], answer.body.length]).toEqual([
        200,
        "3000",
        digest,
        0,
      ]);
    });

    it("answers 404 to what is not there: blob, repository", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      expect((await registry.call("GET", `/v2/a/blobs/${missing}`)).code()).toBe("BLOB_UNKNOWN");
      expect((await registry.call("GET", `/v2/b/blobs/${missing}`)).code()).toBe("NAME_UNKNOWN");
      expect((await registry.call("HEAD", `/v2/a/blobs/${missing}`)).status).toBe(404);
    });

    it.each([
      ["bytes=500-1499", 500, 1500],
      ["bytes=500-", 500, 3000],
      ["bytes=-500", 2500, 3000],
      ["bytes=-5000", 0, 3000],
      ["bytes=2000-5000", 2000, 3000],
      ["bytes=0-0", 0, 1],
      ["bytes=2999-2999", 2999, 3000],
    ])("answers %s with that part", async (range, start, end) => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      const answer = await registry.call("GET", `/v2/a/blobs/${digest}`, { headers: { range } });
      expect([answer.status, answer.headers["content-range"], answer.headers["content-length"]]).toEqual([
        206,
        `bytes ${start}-${end - 1}/3000`,
        String(end - start),
      ]);
      expect(answer.body).toEqual(content.subarray(start, end));
    });

    it.each(["bytes=500-0", "bytes=3000-", "bytes=5000-10000", "bytes=-0"])(
      "answers 416 to %s, with the size and a body of its own length",
      async (range) => {
        await using registry = await startRegistry({ kind });
        await registry.pushBlob("a", content);
        const answer = await registry.call("GET", `/v2/a/blobs/${digest}`, { headers: { range } });
        expect([answer.status, answer.headers["content-range"], answer.headers["content-length"]]).toEqual([
          416,
          "bytes */3000",
          String(answer.body.length),
        ]);
      },
    );

    it.each(["bytes=0-1,5-6", "pages=1-2", "bytes=x-"])("gives the whole for %s", async (range) => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`, { headers: { range } })).body).toEqual(content);
    });

    it("answers 304 to a client that has it", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`, { headers: { "if-none-match": `"${digest}"` } })).status).toBe(304);
    });

    it("takes a digest with its colon escaped", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      expect((await registry.call("GET", `/v2/a/blobs/${digest.replace(":", "%3A")}`)).status).toBe(200);
    });
  });

  describe("manifests", () => {
    it("stores the exact bytes and gives them by tag and by digest", async () => {
      await using registry = await startRegistry({ kind });
      const compact = await registry.manifest("a", { "x-custom": { b: 1, a: [] } });
      const bytes = Buffer.from(`  ${compact.toString()}\n`);
      const answer = await registry.put("a", "v1", bytes);
      expect([answer.status, answer.headers["docker-content-digest"]]).toEqual([201, digestOf(bytes)]);
      for (const reference of ["v1", digestOf(bytes)]) {
        const got = await registry.call("GET", `/v2/a/manifests/${reference}`);
        expect(got.body).toEqual(bytes);
        const { "content-type": type, "content-length": length, "docker-content-digest": shown } = got.headers;
        expect([type, length, shown]).toEqual([mediaTypes.manifest, String(bytes.length), digestOf(bytes)]);
        const head = await registry.call("HEAD", `/v2/a/manifests/${reference}`);
        expect([head.status, head.headers["content-length"], head.headers["content-type"], head.body.length]).toEqual([
          200,
          String(bytes.length),
          mediaTypes.manifest,
          0,
        ]);
      }
    });

    it("moves a tag", async () => {
      await using registry = await startRegistry({ kind });
      const [first, second] = [await registry.manifest("a", {}, "one"), await registry.manifest("a", {}, "two")];
      await registry.put("a", "v1", first);
      await registry.put("a", "v1", second);
      expect((await registry.call("GET", "/v2/a/manifests/v1")).body).toEqual(second);
      expect((await registry.call("GET", `/v2/a/manifests/${digestOf(first)}`)).body).toEqual(first);
    });

    it("sets many tags at once with a push by digest, and says which", async () => {
      await using registry = await startRegistry({ kind });
      for (const algorithm of ["sha256", "sha512"] as const) {
        const bytes = await registry.manifest("a", { annotations: { algorithm } });
        const tags = Array.from({ length: 12 }, (_, i) => `${algorithm}-t${i}`);
        const known = digestOf(bytes, algorithm);
        const answer = await registry.put("a", `${known}?${tags.map((tag) => `tag=${tag}`).join("&")}`, bytes);
        expect([answer.status, answer.headers["oci-tag"], answer.headers["docker-content-digest"]]).toEqual([201, tags.join(", "), known]);
        const got = await registry.call("GET", `/v2/a/manifests/${algorithm}-t11`);
        expect([got.body, got.headers["docker-content-digest"]]).toEqual([bytes, known]);
      }
    });

    it("refuses too many tags, and a tag that is none", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      const many = Array.from({ length: 101 }, (_, i) => `tag=t${i}`).join("&");
      expect((await registry.put("a", `${digestOf(bytes)}?${many}`, bytes)).status).toBe(414);
      expect((await registry.put("a", `${digestOf(bytes)}?tag=-no`, bytes)).status).toBe(400);
    });

    it("ignores parameters of Content-Type, and takes the document's own type when there is none", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      expect((await registry.put("a", "v1", bytes, `${mediaTypes.manifest}; charset=utf-8`)).status).toBe(201);
      expect((await registry.call("PUT", "/v2/a/manifests/v2", { body: bytes })).status).toBe(201);
    });

    it("takes a manifest of 3.9 MiB and refuses one over 4 MiB with 413", async () => {
      await using registry = await startRegistry({ kind });
      const annotations = Object.fromEntries(Array.from({ length: 390 }, (_, i) => [`a${i}`, "x".repeat(10_000)]));
      expect((await registry.put("a", "big", await registry.manifest("a", { annotations }))).status).toBe(201);
      const huge = await registry.manifest("a", { annotations: { ...annotations, more: "x".repeat(400_000) } });
      expect((await registry.put("a", "huge", huge)).status).toBe(413);
      const chunked = { body: huge, chunked: true, headers: { "content-type": mediaTypes.manifest } };
      expect((await registry.call("PUT", "/v2/a/manifests/huge", chunked)).status).toBe(413);
    });

    it("refuses a manifest with another digest than its address", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      expect((await registry.put("a", digestOf(bytes), Buffer.concat([bytes, Buffer.from(" ")]))).code()).toBe("DIGEST_INVALID");
      expect((await registry.put("a", "sha256:baddigeststring", bytes)).status).toBe(400);
    });

    it("refuses what is no manifest: JSON, type, both shapes, disagreement, schema 1", async () => {
      await using registry = await startRegistry({ kind });
      const good = JSON.parse((await registry.manifest("a")).toString()) as Record<string, unknown>;
      const cases: readonly [unknown, string][] = [
        ["{", mediaTypes.manifest],
        [good, "application/vnd.example.manifest+json"],
        [{ ...good, manifests: [] }, mediaTypes.manifest],
        [good, mediaTypes.index],
        [{ ...good, mediaType: mediaTypes.dockerManifest }, mediaTypes.manifest],
        [{ ...good, schemaVersion: 1 }, mediaTypes.manifest],
        [{ ...good, layers: [{ mediaType: mediaTypes.layerTar, digest: "sha256:../../etc", size: 1 }] }, mediaTypes.manifest],
      ];
      for (const [document, type] of cases) {
        const body = typeof document === "string" ? Buffer.from(document) : json(document);
        const answer = await registry.put("a", "bad", body, type);
        expect([answer.status, answer.code()]).toEqual([400, "MANIFEST_INVALID"]);
      }
      const twice = Buffer.from(json(good).toString().replace('"layers"', '"layers":[],"layers"'));
      expect((await registry.put("a", "bad", twice)).code()).toBe("MANIFEST_INVALID");
      expect((await registry.call("GET", "/v2/a/manifests/bad")).status).toBe(404);
    });

    it("refuses a manifest whose layer is not there, or has another size", async () => {
      await using registry = await startRegistry({ kind });
      const good = JSON.parse((await registry.manifest("a")).toString()) as { layers: { size: number }[] };
      const absent = { ...good, layers: [{ mediaType: mediaTypes.layerTar, digest: missing, size: 7 }] };
      expect((await registry.put("a", "v", json(absent))).code()).toBe("MANIFEST_BLOB_UNKNOWN");
      const wrong = { ...good, layers: good.layers.map((layer) => ({ ...layer, size: layer.size + 1 })) };
      expect((await registry.put("a", "v", json(wrong))).code()).toBe("MANIFEST_INVALID");
      const index = {
        schemaVersion: 2,
        mediaType: mediaTypes.index,
        manifests: [{ mediaType: mediaTypes.manifest, digest: missing, size: 7 }],
      };
      expect((await registry.put("a", "v", json(index), mediaTypes.index)).code()).toBe("MANIFEST_BLOB_UNKNOWN");
    });

    it("takes a manifest whose layers may not be distributed", async () => {
      await using registry = await startRegistry({ kind });
      const layer = {
        mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        digest: missing,
        size: 123_456,
        urls: ["https://store.example.com/x"],
      };
      expect((await registry.put("a", "v", await registry.manifest("a", { layers: [layer] }))).status).toBe(201);
    });

    it("takes an index, an index of indexes, and one without entries", async () => {
      await using registry = await startRegistry({ kind });
      const image = await registry.manifest("a");
      await registry.put("a", digestOf(image), image);
      const entry = (bytes: Buffer, mediaType: string) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
      const inner = json({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [entry(image, mediaTypes.manifest)] });
      expect((await registry.put("a", digestOf(inner), inner, mediaTypes.index)).status).toBe(201);
      const outer = json({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [entry(inner, mediaTypes.index)] });
      expect((await registry.put("a", "outer", outer, mediaTypes.index)).status).toBe(201);
      const empty = json({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] });
      expect((await registry.put("a", "empty", empty, mediaTypes.index)).status).toBe(201);
      expect((await registry.call("GET", "/v2/a/manifests/outer")).headers["content-type"]).toBe(mediaTypes.index);
    });

    it("answers 404 to an unknown tag, digest and repository", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      for (const reference of ["nope", missing])
        expect((await registry.call("GET", `/v2/a/manifests/${reference}`)).code()).toBe("MANIFEST_UNKNOWN");
      expect((await registry.call("GET", "/v2/nowhere/manifests/v1")).code()).toBe("NAME_UNKNOWN");
      expect((await registry.call("GET", `/v2/a/manifests/${"t".repeat(129)}`)).status).toBe(404);
      // A blob is no manifest.
      expect((await registry.call("GET", `/v2/a/manifests/${digest}`)).status).toBe(404);
    });

    it("lets writers of one tag notice each other", async () => {
      await using registry = await startRegistry({ kind });
      const [first, second, third] = [
        await registry.manifest("a", {}, "1"),
        await registry.manifest("a", {}, "2"),
        await registry.manifest("a", {}, "3"),
      ];
      expect((await registry.put("a", "v", first, mediaTypes.manifest, { "if-none-match": "*" })).status).toBe(201);
      expect((await registry.put("a", "v", second, mediaTypes.manifest, { "if-none-match": "*" })).status).toBe(412);
      const etag = (await registry.call("GET", "/v2/a/manifests/v")).headers.etag ?? "";
      expect((await registry.put("a", "v", second, mediaTypes.manifest, { "if-match": etag })).status).toBe(201);
      expect((await registry.put("a", "v", third, mediaTypes.manifest, { "if-match": etag })).status).toBe(412);
      expect((await registry.call("GET", "/v2/a/manifests/v")).body).toEqual(second);
      expect((await registry.call("GET", "/v2/a/manifests/v", { headers: { "if-none-match": `"${digestOf(second)}"` } })).status).toBe(304);
    });
  });

  describe("listing tags", () => {
    it("lists all, sorted by code units, and none where there are none", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags: [] });
      for (const tag of ["b", "a", "Z", "1.10", "1.9", "_x"]) await registry.put("a", tag, bytes);
      expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags: ["1.10", "1.9", "Z", "_x", "a", "b"] });
    });

    it("pages with n, last and Link", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      for (const tag of ["t1", "t2", "t3", "t4", "t5"]) await registry.put("a", tag, bytes);
      const seen: string[] = [];
      let path: string | undefined = "/v2/a/tags/list?n=2";
      while (path !== undefined) {
        const answer = await registry.call("GET", path);
        seen.push(...(answer.json() as { tags: string[] }).tags);
        path = /^<([^>]+)>; rel="next"$/.exec(answer.headers.link?.toString() ?? "")?.[1];
      }
      expect(seen).toEqual(["t1", "t2", "t3", "t4", "t5"]);
      const zero = await registry.call("GET", "/v2/a/tags/list?n=0");
      expect([zero.json(), zero.headers.link]).toEqual([{ name: "a", tags: [] }, undefined]);
      expect((await registry.call("GET", "/v2/a/tags/list?last=t3")).json()).toEqual({ name: "a", tags: ["t4", "t5"] });
      expect((await registry.call("GET", "/v2/a/tags/list?n=2&last=t2x")).json()).toEqual({ name: "a", tags: ["t3", "t4"] });
      expect((await registry.call("GET", "/v2/a/tags/list?n=5")).headers.link).toBeUndefined();
      expect((await registry.call("GET", "/v2/a/tags/list?n=-1")).status).toBe(400);
    });

    it("answers 404 for a repository that is not there", async () => {
      await using registry = await startRegistry({ kind });
      expect((await registry.call("GET", "/v2/nowhere/tags/list")).code()).toBe("NAME_UNKNOWN");
    });

    it("lists repositories in pages", async () => {
      await using registry = await startRegistry({ kind });
      for (const name of ["b", "a/c", "a"]) await registry.pushBlob(name, "x");
      expect((await registry.call("GET", "/v2/_catalog")).json()).toEqual({ repositories: ["a", "a/c", "b"] });
      const page = await registry.call("GET", "/v2/_catalog?n=2");
      expect([page.json(), page.headers.link]).toEqual([{ repositories: ["a", "a/c"] }, '</v2/_catalog?n=2&last=a%2Fc>; rel="next"']);
    });
  });

  describe("referrers", () => {
    const subject = { mediaType: mediaTypes.manifest, digest: missing, size: 123 };
    const list = (answer: { json: () => unknown }) => (answer.json() as { manifests: Record<string, unknown>[] }).manifests;

    it("gives an empty index for what has none, also in a repository that is not there", async () => {
      await using registry = await startRegistry({ kind });
      const answer = await registry.call("GET", `/v2/nowhere/referrers/${missing}`);
      expect([answer.status, answer.headers["content-type"]]).toEqual([200, mediaTypes.index]);
      expect(answer.json()).toEqual({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] });
    });

    it("refuses a malformed digest with 400", async () => {
      await using registry = await startRegistry({ kind });
      expect((await registry.call("GET", "/v2/a/referrers/sha256:bad")).status).toBe(400);
    });

    it("says OCI-Subject, and lists a manifest with type and annotations before its subject is there", async () => {
      await using registry = await startRegistry({ kind });
      const annotations = { "org.example": "hello" };
      const bytes = await registry.manifest("a", { artifactType: "application/vnd.example.one", subject, annotations });
      expect((await registry.put("a", digestOf(bytes), bytes)).headers["oci-subject"]).toBe(missing);
      expect(list(await registry.call("GET", `/v2/a/referrers/${missing}`))).toEqual([
        {
          mediaType: mediaTypes.manifest,
          digest: digestOf(bytes),
          size: bytes.length,
          artifactType: "application/vnd.example.one",
          annotations,
        },
      ]);
    });

    it("takes the configuration's type where a manifest has none, and none for an index", async () => {
      await using registry = await startRegistry({ kind });
      const image = await registry.manifest("a", { subject });
      await registry.put("a", digestOf(image), image);
      const index = json({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [], subject });
      expect((await registry.put("a", "index", index, mediaTypes.index)).headers["oci-subject"]).toBe(missing);
      const entries = list(await registry.call("GET", `/v2/a/referrers/${missing}`));
      expect(entries.find((entry) => entry["digest"] === digestOf(image))).toMatchObject({ artifactType: mediaTypes.config });
      expect(Object.keys(entries.find((entry) => entry["digest"] === digestOf(index)) ?? {})).not.toContain("artifactType");
    });

    it("filters by type and says so", async () => {
      await using registry = await startRegistry({ kind });
      for (const name of ["one", "two"]) {
        const bytes = await registry.manifest("a", { artifactType: `application/vnd.example.${name}`, subject });
        await registry.put("a", digestOf(bytes), bytes);
      }
      const answer = await registry.call("GET", `/v2/a/referrers/${missing}?artifactType=application/vnd.example.two`);
      expect(answer.headers["oci-filters-applied"]).toBe("artifactType");
      expect(list(answer).map((entry) => entry["artifactType"])).toEqual(["application/vnd.example.two"]);
      expect((await registry.call("GET", `/v2/a/referrers/${missing}`)).headers["oci-filters-applied"]).toBeUndefined();
    });

    it("pages with Link and loses and repeats nothing", async () => {
      await using registry = await startRegistry({ kind, limits: { referrersPage: 3 } });
      for (let i = 0; i < 10; i += 1) {
        const bytes = await registry.manifest("a", { artifactType: "application/vnd.example.one", subject, annotations: { i: String(i) } });
        await registry.put("a", digestOf(bytes), bytes);
      }
      const seen: unknown[] = [];
      let path: string | undefined = `/v2/a/referrers/${missing}?artifactType=application/vnd.example.one`;
      while (path !== undefined) {
        const answer = await registry.call("GET", path);
        expect(list(answer).length).toBeLessThanOrEqual(3);
        seen.push(...list(answer).map((entry) => entry["digest"]));
        path = /^<([^>]+)>; rel="next"$/.exec(answer.headers.link?.toString() ?? "")?.[1];
      }
      expect(new Set(seen).size).toBe(10);
      expect(seen.length).toBe(10);
    });

    it("keeps a page under the size of a manifest", async () => {
      await using registry = await startRegistry({ kind });
      const annotations = { text: "x".repeat(1_500_000) };
      for (let i = 0; i < 4; i += 1) {
        const bytes = await registry.manifest("a", { subject, annotations: { ...annotations, i: String(i) } });
        await registry.put("a", digestOf(bytes), bytes);
      }
      const answer = await registry.call("GET", `/v2/a/referrers/${missing}`);
      expect(answer.body.length).toBeLessThanOrEqual(4 * 1024 * 1024);
      expect(list(answer).length).toBe(2);
      expect(answer.headers.link).toContain('rel="next"');
    });

    it("forgets a deleted referrer", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a", { subject });
      await registry.put("a", digestOf(bytes), bytes);
      await registry.call("DELETE", `/v2/a/manifests/${digestOf(bytes)}`);
      expect(list(await registry.call("GET", `/v2/a/referrers/${missing}`))).toEqual([]);
    });
  });

  describe("content management", () => {
    it("deletes a tag and keeps the manifest", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      await registry.put("a", "v1", bytes);
      await registry.put("a", "v2", bytes);
      expect((await registry.call("DELETE", "/v2/a/manifests/v1")).status).toBe(202);
      expect((await registry.call("GET", "/v2/a/manifests/v1")).status).toBe(404);
      expect((await registry.call("GET", "/v2/a/manifests/v2")).status).toBe(200);
      expect((await registry.call("DELETE", "/v2/a/manifests/v1")).status).toBe(404);
    });

    it("deletes a manifest with all its tags", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      await registry.put("a", "v1", bytes);
      await registry.put("a", "v2", bytes);
      expect((await registry.call("DELETE", `/v2/a/manifests/${digestOf(bytes)}`)).status).toBe(202);
      for (const reference of ["v1", "v2", digestOf(bytes)])
        expect((await registry.call("GET", `/v2/a/manifests/${reference}`)).status).toBe(404);
      expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags: [] });
    });

    it("deletes a blob, once", async () => {
      await using registry = await startRegistry({ kind });
      await registry.pushBlob("a", content);
      expect((await registry.call("DELETE", `/v2/a/blobs/${digest}`)).status).toBe(202);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`)).status).toBe(404);
      expect((await registry.call("DELETE", `/v2/a/blobs/${digest}`)).status).toBe(404);
      expect((await registry.call("DELETE", `/v2/nowhere/blobs/${digest}`)).code()).toBe("NAME_UNKNOWN");
    });

    it("does not delete a manifest through the blob endpoint", async () => {
      await using registry = await startRegistry({ kind });
      const bytes = await registry.manifest("a");
      await registry.put("a", "v1", bytes);
      expect((await registry.call("DELETE", `/v2/a/blobs/${digestOf(bytes)}`)).code()).toBe("UNSUPPORTED");
      expect((await registry.call("GET", "/v2/a/manifests/v1")).status).toBe(200);
    });
  });
});
