import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { loadProfile } from "../../registry-fixtures/index.ts";
import { missingPeers } from "../peers.ts";
import { startDockerRegistry } from "../registry/docker-registry.ts";
import { call, json, startRegistry, type Answer, type Call } from "./client.ts";

const content = Buffer.alloc(3000, "abc");
const digest = digestOf(content);
const config = Buffer.from("{}");
const octets = { "content-type": "application/octet-stream" };
const missing = digestOf(Buffer.from("missing"));

/** What a client can tell apart. */
interface Observation {
  readonly what: string;
  readonly status: number;
  readonly code?: string | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
}

const shownHeaders = ["docker-content-digest", "content-range", "range", "oci-subject", "oci-chunk-min-length", "oci-tag", "link"] as const;

/** Plays one script of requests and notes every answer. */
async function play(url: string): Promise<readonly Observation[]> {
  const observations: Observation[] = [];
  const ask = async (what: string, method: string, target: string, options: Call = {}): Promise<Answer> => {
    const answer = await call(target.startsWith("http") ? target : `${url}${target}`, method, options);
    const isJson =
      answer.headers["content-type"]?.startsWith("application/json") === true && answer.status >= 400 && answer.body.length > 0;
    const headers = Object.fromEntries(
      shownHeaders.filter((name) => answer.headers[name] !== undefined).map((name) => [name, answer.headers[name]]),
    );
    observations.push({ what, status: answer.status, code: isJson ? answer.code() : undefined, headers });
    return answer;
  };
  const begin = async (what: string, query = "") => (await ask(what, "POST", `/v2/a/blobs/uploads/${query}`)).headers.location ?? "";
  const put = (what: string, reference: string, bytes: Buffer, type: string | undefined = mediaTypes.manifest) =>
    ask(what, "PUT", `/v2/a/manifests/${reference}`, { body: bytes, headers: { "content-type": type } });
  const manifest = (more: Record<string, unknown> = {}) =>
    json({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: { mediaType: mediaTypes.config, digest: digestOf(config), size: 2 },
      layers: [{ mediaType: mediaTypes.layerTar, digest, size: 3000 }],
      ...more,
    });

  await ask("base", "GET", "/v2/");
  await ask("tags of nothing", "GET", "/v2/a/tags/list");
  await ask("single POST", "POST", `/v2/a/blobs/uploads/?digest=${digest}`, { body: content, headers: octets });
  await ask("PUT", "PUT", `${await begin("POST")}&digest=${digest}`, { body: content, headers: octets });
  await ask("PUT of a configuration", "PUT", `${await begin("POST")}&digest=${digestOf(config)}`, { body: config, headers: octets });
  await ask("PUT with a wrong digest", "PUT", `${await begin("POST")}&digest=${missing}`, { body: content, headers: octets });
  const location = await begin("POST");
  const chunk = { body: content.subarray(0, 5), headers: { ...octets, "content-range": "0-4" } };
  const first = await ask("first chunk", "PATCH", location, chunk);
  await ask("status at a stale address", "GET", location);
  await ask("status", "GET", first.headers.location ?? "");
  const again = await ask("the same chunk again", "PATCH", first.headers.location ?? "", chunk);
  await ask("cancel", "DELETE", again.headers.location ?? "");
  await ask("status after cancelling", "GET", again.headers.location ?? "");
  await ask("HEAD", "HEAD", `/v2/a/blobs/${digest}`);
  await ask("HEAD of nothing", "HEAD", `/v2/a/blobs/${missing}`);
  await ask("GET of nothing", "GET", `/v2/a/blobs/${missing}`);
  await ask("range", "GET", `/v2/a/blobs/${digest}`, { headers: { range: "bytes=10-19" } });
  await ask("mount", "POST", `/v2/b/blobs/uploads/?mount=${digest}&from=a`);
  await ask("mount of nothing", "POST", `/v2/b/blobs/uploads/?mount=${missing}&from=a`);
  await ask("mount from nowhere", "POST", `/v2/c/blobs/uploads/?mount=${digest}`);
  const good = manifest();
  await put("manifest", "v1", good);
  await put("manifest by digest", digestOf(good), good);
  await put("manifest with another digest", missing, good);
  await put("manifest without its layer", "v2", manifest({ layers: [{ mediaType: mediaTypes.layerTar, digest: missing, size: 1 }] }));
  await put("manifest with a wrong size", "v2", manifest({ layers: [{ mediaType: mediaTypes.layerTar, digest, size: 1 }] }));
  await put("manifest of an unknown type", "v2", good, "application/vnd.example+json");
  await put("both shapes", "v2", manifest({ manifests: [] }));
  await put("no JSON", "v2", Buffer.from("{"));
  await put("with a subject", "v3", manifest({ subject: { mediaType: mediaTypes.manifest, digest: digestOf(good), size: good.length } }));
  await put("over 4 MiB", "v4", manifest({ annotations: { x: "x".repeat(4_300_000) } }));
  await put("of 3.9 MiB", "v5", manifest({ annotations: { x: "x".repeat(4_000_000) } }));
  await put("sha512 manifest", digestOf(good, "sha512"), good);
  await ask("manifest by tag", "GET", "/v2/a/manifests/v1", { headers: { accept: mediaTypes.manifest } });
  await ask("manifest, HEAD", "HEAD", "/v2/a/manifests/v1", { headers: { accept: mediaTypes.manifest } });
  await ask("manifest of another accepted type", "GET", "/v2/a/manifests/v1", { headers: { accept: "*/*" } });
  await ask("unknown tag", "GET", "/v2/a/manifests/nope", { headers: { accept: mediaTypes.manifest } });
  await ask("referrers", "GET", `/v2/a/referrers/${digestOf(good)}`);
  await ask("tags", "GET", "/v2/a/tags/list?n=1");
  await ask("delete a tag", "DELETE", "/v2/a/manifests/v1");
  await ask("delete a manifest", "DELETE", `/v2/a/manifests/${digestOf(good)}`);
  await ask("tag of a deleted manifest", "GET", "/v2/a/manifests/v1", { headers: { accept: mediaTypes.manifest } });
  await ask("delete a blob", "DELETE", `/v2/b/blobs/${digest}`);
  return observations;
}

describe.skipIf(missingPeers("docker-registry"))("the profile of docker-registry 2.8", () => {
  it("answers a client as the real one does", async () => {
    const real = await startDockerRegistry();
    const profile = await loadProfile("docker-registry-2.8");
    // The real one is started with deletion switched on.
    await using ours = await startRegistry({ profile: { ...profile, quirks: { ...profile.quirks, contentDelete: "allowed" } } });
    try {
      const theirs = await play(`http://${real.host}`);
      const mine = await play(ours.server.url);
      expect(mine).toEqual(theirs);
      expect(mine.length).toBeGreaterThan(40);
    } finally {
      await real.close();
    }
  });
});
