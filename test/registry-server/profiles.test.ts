import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { conformant, parseVendorProfile, type Quirks } from "../../src/registry-server/index.ts";
import { loadProfile, profileNames, type ProfileName } from "../../registry-fixtures/index.ts";
import { startRegistry, type TestRegistry } from "./client.ts";

const content = Buffer.alloc(6000, "abc");
const digest = digestOf(content);
const subject = { mediaType: mediaTypes.manifest, digest: digestOf(Buffer.from("subject")), size: 7 };

async function as(name: ProfileName, more: Partial<Quirks> = {}): Promise<TestRegistry> {
  const profile = await loadProfile(name);
  return startRegistry({ profile: { ...profile, quirks: { ...profile.quirks, ...more } }, repositories: ["a"] });
}

/** POST and PUT, which every product knows. */
async function push(registry: TestRegistry, bytes: Buffer): Promise<void> {
  const location = await registry.begin("a");
  const answer = await registry.call("PUT", `${location}${location.includes("?") ? "&" : "?"}digest=${digestOf(bytes)}`, { body: bytes });
  expect(answer.status).toBe(201);
}

async function image(registry: TestRegistry, more: Record<string, unknown> = {}): Promise<Buffer> {
  await push(registry, content);
  await push(registry, Buffer.from("{}"));
  const layer = { mediaType: mediaTypes.layerTar, digest, size: content.length };
  const config = { mediaType: mediaTypes.config, digest: digestOf(Buffer.from("{}")), size: 2 };
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [layer], ...more }));
}

describe("vendor profiles", () => {
  it("are all well-formed, named as their files, and differ from the specification", async () => {
    const names = await profileNames();
    expect(names).toEqual(expect.arrayContaining(["docker-registry-2.8", "ghcr", "ecr", "docker-hub", "quay", "harbor"]));
    for (const name of names) {
      const profile = await loadProfile(name as ProfileName);
      expect(profile.name).toBe(name);
      expect(profile.quirks).not.toEqual(conformant);
    }
  });

  it.each([
    ["{}", "no name"],
    ['{"name":"x","provenance":"","quirks":{}}', "no provenance"],
    ['{"name":"x","provenance":"y","quirks":{"referrers":"sometimes"}}', "an unknown value"],
    ['{"name":"x","provenance":"y","quirks":{"toString":1}}', "an unknown quirk"],
    ['{"name":"x","provenance":"y","quirks":{},"more":1}', "an unknown member"],
    ['{"name":"x","provenance":"y","quirks":{"tagPageMax":-1}}', "a negative number"],
  ])("are refused: %s (%s)", (text) => {
    expect(() => parseVendorProfile(text)).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_SERVER_OPTIONS" }));
  });

  it.each(["docker-registry-2.8", "ghcr", "docker-hub", "quay", "harbor", "gitlab", "acr", "lenient", "ecr"] as const)(
    "%s takes and gives an image",
    async (name) => {
      await using registry = await as(name);
      const bytes = await image(registry);
      expect((await registry.put("a", "v1", bytes)).status).toBe(201);
      const answer = await registry.call("GET", "/v2/a/manifests/v1", { headers: { accept: mediaTypes.manifest } });
      expect(answer.body).toEqual(bytes);
      expect((await registry.call("GET", `/v2/a/blobs/${digest}`)).body).toEqual(content);
    },
  );

  it("docker-registry: no referrers, no single POST, strict Accept, addresses that go stale, chunks unchecked", async () => {
    await using registry = await as("docker-registry-2.8");
    const bytes = await image(registry, { subject });
    expect((await registry.put("a", "v1", bytes)).headers["oci-subject"]).toBeUndefined();
    const referrers = await registry.call("GET", `/v2/a/referrers/${subject.digest}`);
    expect([referrers.status, referrers.body.toString()]).toEqual([404, "404 page not found\n"]);
    expect((await registry.call("POST", `/v2/a/blobs/uploads/?digest=${digest}`, { body: content })).status).toBe(202);
    expect((await registry.call("GET", "/v2/a/manifests/v1", { headers: { accept: "*/*" } })).code()).toBe("MANIFEST_UNKNOWN");
    const location = await registry.begin("a");
    expect(location).toMatch(new RegExp(`^${registry.server.url}/v2/a/blobs/uploads/[0-9a-f-]{36}\\?_state=`));
    const chunk = { body: "12345", headers: { "content-range": "0-4" } };
    const first = await registry.call("PATCH", location, chunk);
    expect((await registry.call("GET", location)).code()).toBe("BLOB_UPLOAD_INVALID");
    const again = await registry.call("PATCH", first.headers.location ?? "", chunk);
    expect([again.status, again.headers.range]).toEqual([202, "0-9"]);
    expect((await registry.call("DELETE", "/v2/a/manifests/v1")).status).toBe(400);
    const huge = await image(registry, { annotations: { x: "x".repeat(5_000_000) } });
    expect((await registry.put("a", "v1", huge)).status).toBe(400);
  });

  it("docker-registry: a sha512 blob gets a sha256 name, a sha512 manifest is refused", async () => {
    await using registry = await as("docker-registry-2.8");
    const answer = await registry.call("PUT", `${await registry.begin("a")}&digest=${digestOf(content, "sha512")}`, { body: content });
    expect([answer.status, answer.headers["docker-content-digest"]]).toEqual([201, digest]);
    const bytes = await image(registry);
    expect((await registry.put("a", digestOf(bytes, "sha512"), bytes)).status).toBe(400);
  });

  it("GHCR: 416 for a PATCH over 4 MiB, no cancelling, 404 document for referrers", async () => {
    await using registry = await as("ghcr", { patchMaxBytes: 1000 });
    const location = await registry.begin("a");
    expect((await registry.call("PATCH", location, { body: content })).status).toBe(416);
    expect((await registry.call("PATCH", location, { body: content, chunked: true })).status).toBe(416);
    expect((await registry.call("DELETE", location)).status).toBe(405);
    expect((await registry.call("GET", `/v2/a/referrers/${digest}`)).code()).toBe("MANIFEST_UNKNOWN");
    expect((await loadProfile("ghcr")).quirks.patchMaxBytes).toBe(4 * 1024 * 1024);
  });

  it("ECR: PATCH is 201, a smallest chunk, later chunks lost, no repository by pushing, immutable tags", async () => {
    await using registry = await as("ecr-immutable");
    expect((await registry.call("POST", "/v2/other/blobs/uploads/")).code()).toBe("NAME_UNKNOWN");
    const begun = await registry.call("POST", "/v2/a/blobs/uploads/");
    expect(begun.headers["oci-chunk-min-length"]).toBe("5242880");
    const location = begun.headers.location ?? "";
    expect((await registry.call("PATCH", location, { body: content.subarray(0, 3000) })).status).toBe(201);
    expect((await registry.call("PATCH", location, { body: content.subarray(3000) })).status).toBe(201);
    expect((await registry.call("PUT", `${location}?digest=${digest}`)).code()).toBe("DIGEST_INVALID");
    await registry.put("a", "v1", await image(registry));
    const other = await image(registry, { annotations: { a: "b" } });
    expect((await registry.put("a", "v1", other)).status).toBe(400);
    expect((await registry.put("a", "v1", await image(registry))).status).toBe(201);
  });

  it("Docker Hub: counts manifest GETs, not HEADs, and says 429 with Retry-After", async () => {
    let now = 0;
    const profile = await loadProfile("docker-hub");
    await using registry = await startRegistry({ profile: { ...profile, quirks: { ...profile.quirks, rateLimit: 2 } }, now: () => now });
    await registry.put("a", "v1", await image(registry));
    const got = await registry.call("GET", "/v2/a/manifests/v1");
    expect([got.headers["ratelimit-limit"], got.headers["ratelimit-remaining"]]).toEqual(["2;w=21600", "1;w=21600"]);
    for (let i = 0; i < 5; i += 1) expect((await registry.call("HEAD", "/v2/a/manifests/v1")).status).toBe(200);
    await registry.call("GET", "/v2/a/manifests/v1");
    const refused = await registry.call("GET", "/v2/a/manifests/v1");
    expect([refused.status, refused.code(), refused.headers["retry-after"]]).toEqual([429, "TOOMANYREQUESTS", "21600"]);
    now = 21_600_000;
    expect((await registry.call("GET", "/v2/a/manifests/v1")).status).toBe(200);
  });

  it("Quay: a mount must say from where, and one PUT has a limit", async () => {
    await using registry = await as("quay", { putMaxBytes: 1000 });
    expect((await registry.call("POST", `/v2/a/blobs/uploads/?mount=${digest}`)).status).toBe(400);
    expect((await registry.call("PUT", `${await registry.begin("a")}?digest=${digest}`, { body: content })).status).toBe(413);
  });

  it("Harbor: a manifest's GET is compressed where allowed, its HEAD is not, and locations are http", async () => {
    await using registry = await as("harbor");
    const bytes = await image(registry);
    await registry.put("a", "v1", bytes);
    const headers = { "accept-encoding": "gzip" };
    const get = await registry.call("GET", "/v2/a/manifests/v1", { headers });
    const head = await registry.call("HEAD", "/v2/a/manifests/v1", { headers });
    expect(gunzipSync(get.body)).toEqual(bytes);
    expect(head.headers["content-length"]).toBe(String(bytes.length));
    expect(get.headers["content-length"]).not.toBe(head.headers["content-length"]);
    expect((await registry.call("GET", "/v2/a/manifests/v1", { headers: { "accept-encoding": "identity" } })).body).toEqual(bytes);
    expect(await registry.begin("a")).toMatch(/^http:\/\//);
  });

  it("GitLab: the referrers tag gives the subject", async () => {
    await using registry = await as("gitlab");
    const bytes = await image(registry);
    await registry.put("a", "v1", bytes);
    const answer = await registry.call("GET", `/v2/a/manifests/${digestOf(bytes).replace(":", "-")}`);
    expect(answer.body).toEqual(bytes);
  });

  it("lenient and sparse: what does not fit together or is not there is stored", async () => {
    await using lenient = await as("lenient");
    const bytes = await image(lenient);
    expect((await lenient.put("a", "v1", bytes, mediaTypes.index)).status).toBe(201);
    await using sparse = await as("sparse");
    expect((await sparse.put("a", "v1", bytes)).status).toBe(201);
  });

  it("refused media types: exact, and with any text in between", async () => {
    await using registry = await as("sparse", { refusedMediaTypes: ["application/vnd.oci.image.layer.v1.tar*+encrypted"] });
    const layer = (mediaType: string) => ({ layers: [{ mediaType, digest, size: 6000 }] });
    expect(
      (await registry.put("a", "v1", await image(registry, layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")))).code(),
    ).toBe("MANIFEST_INVALID");
    expect((await registry.put("a", "v1", await image(registry, layer("application/vnd.oci.image.layer.v1.tar+gzip")))).status).toBe(201);
  });
});
