import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { parseDigest, parseJson } from "../../src/bytes/index.ts";
import { decompress } from "../../src/guest/decompress.ts";
import {
  parseDescriptor,
  parseImageConfig,
  parseImageName,
  parseIndex,
  parseManifest,
  parsePlatform,
  parseRepositoryName,
} from "../../src/oci/index.ts";
import { parseCredentials } from "../../src/registry/credential-entries.ts";
import { parseChallenges } from "../../src/registry/challenge.ts";
import { parseContentRange, parseNextLink, parseUploadRange } from "../../src/registry/content-range.ts";
import { parseRegistriesConf } from "../../src/registry/index.ts";
import { parseRealm } from "../../src/registry/realm.ts";
import { parseRetryAfter } from "../../src/registry/retry.ts";
import { parseRange } from "../../src/registry-server/range.ts";
import { Refusal } from "../../src/registry-server/refusal.ts";
import { parseRoute } from "../../src/registry-server/route.ts";
import { parseFaultRules } from "../../src/registry-server/fault-rule.ts";
import { parseVendorProfile } from "../../src/registry-server/profile.ts";
import { parsePax, parseTarHeader } from "../../src/store/archive/tar-header.ts";
import { readTar } from "../guest/reading.ts";
import { entry, paxBody } from "../guest/tar-bytes.ts";
import { json, text, type FuzzTarget } from "./run.ts";

const digest = `sha256:${"ab".repeat(32)}`;
const layerType = "application/vnd.oci.image.layer.v1.tar+gzip";
const descriptor = {
  mediaType: layerType,
  digest,
  size: 3,
  annotations: { a: "b" },
  platform: { os: "linux", architecture: "arm64", variant: "v8" },
};
const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const manifest = {
  schemaVersion: 2,
  mediaType: manifestType,
  config: { ...descriptor, mediaType: "application/vnd.oci.image.config.v1+json" },
  layers: [descriptor],
};
const index = {
  schemaVersion: 2,
  mediaType: indexType,
  manifests: [{ ...descriptor, mediaType: manifestType }],
  subject: { ...descriptor, mediaType: manifestType },
};
const config = {
  os: "linux",
  architecture: "amd64",
  config: { Env: ["A=b"], Cmd: ["/x"], User: "1:2" },
  rootfs: { type: "layers", diff_ids: [digest] },
  history: [{ created_by: "x" }],
};
const archive = Buffer.concat([
  entry({ name: "a/", type: "5" }),
  entry({ name: "a/b", data: "content" }),
  entry({
    type: "x",
    data: paxBody([
      ["path", `${"long/".repeat(40)}c`],
      ["SCHILY.xattr.user.a", "b"],
      ["mtime", "1.5"],
    ]),
  }),
  entry({ name: "c", data: "more" }),
  entry({ name: "d", type: "2", link: "a/b" }),
  entry({ type: "L", magic: "gnu", data: `${"name/".repeat(30)}\0` }),
  entry({ name: "e", type: "1", magic: "gnu", link: "c" }),
  Buffer.alloc(1024),
]);
const fixtures = resolve(import.meta.dirname, "../../registry-fixtures");
const fixture = (name: string): Buffer => readFileSync(join(fixtures, name));

/** Makes checksums right again: without, mutations of a tar would find nothing but wrong checksums. */
function withChecksums(input: Buffer): Buffer {
  for (let at = 0; at + 512 <= input.length; at += 512) {
    const block = input.subarray(at, at + 512);
    if (block.toString("latin1", 257, 262) !== "ustar") continue;
    block.fill(0x20, 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  }
  return input;
}

async function* pieces(input: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < input.length; at += 97) yield input.subarray(at, at + 97);
}

/** What a registry, a layout, a credentials file and a layer send. */
export function imageTargets(): readonly FuzzTarget[] {
  const reads = (read: (value: string) => unknown) => (input: Buffer) => read(input.toString("utf8"));
  const header = (read: (value: string) => unknown) => (input: Buffer) => read(input.toString("latin1"));
  const inflate = (kind: "gzip" | "zstd") => async (input: Buffer) => {
    let size = 0;
    for await (const chunk of decompress(kind, pieces(input), { maxZstdWindow: 1 << 23 })) {
      size += chunk.length;
      if (size > 1 << 22) break;
    }
  };
  return [
    {
      name: "image name",
      weight: 8,
      seeds: [text("docker://h.example:5000/a/b:t@" + digest), text("oci:dir:ref"), text("a/b")],
      run: reads(parseImageName),
    },
    { name: "repository name", weight: 2, seeds: [text("h.example/a/b")], run: reads(parseRepositoryName) },
    { name: "platform", weight: 2, seeds: [text("linux/arm64/v8")], run: reads(parsePlatform) },
    { name: "digest", weight: 1, seeds: [text(digest)], run: reads(parseDigest) },
    { name: "JSON", weight: 4, seeds: [json(manifest)], run: (input) => parseJson(input, { maxBytes: 4 << 20 }) },
    { name: "manifest", weight: 8, seeds: [json(manifest)], run: (input) => parseManifest(input, manifestType) },
    { name: "index", weight: 8, seeds: [json(index)], run: (input) => parseIndex(input, indexType) },
    {
      name: "descriptor",
      weight: 3,
      seeds: [json(descriptor)],
      run: (input) => parseDescriptor(parseJson(input, { maxBytes: 4 << 20 }), "fuzz"),
    },
    { name: "image configuration", weight: 4, seeds: [json(config)], run: (input) => parseImageConfig(input) },
    {
      name: "WWW-Authenticate",
      weight: 6,
      seeds: [text('Bearer realm="https://a.example/token",service="r",scope="repository:a:pull", Basic realm="x"')],
      run: header((value) => parseChallenges([value])),
    },
    {
      name: "realm",
      weight: 2,
      seeds: [text("https://r.example/token")],
      run: header((value) => parseRealm(new URL("https://r.example/"), value)),
    },
    { name: "Link", weight: 3, seeds: [text('</v2/a/tags/list?n=2&last=b>; rel="next"')], run: header((value) => parseNextLink([value])) },
    { name: "Content-Range", weight: 2, seeds: [text("bytes 0-9/10")], run: header(parseContentRange) },
    { name: "Range of an upload", weight: 1, seeds: [text("0-9")], run: header(parseUploadRange) },
    { name: "Range of a request", weight: 1, seeds: [text("bytes=0-9"), text("bytes=-5")], run: header((value) => parseRange(value, 100)) },
    {
      name: "Retry-After",
      weight: 1,
      seeds: [text("120"), text("Tue, 24 Nov 2026 12:00:00 GMT")],
      run: header((value) => parseRetryAfter(value, 0)),
    },
    {
      name: "path of a request",
      weight: 2,
      seeds: [text(`/v2/a/b/blobs/${digest}`), text("/v2/a/manifests/t")],
      run: header(parseRoute),
      refuses: (error) => error instanceof Refusal,
    },
    {
      name: "docker config.json",
      weight: 4,
      seeds: [json({ auths: { "h.example": { auth: "YTpi" } }, credHelpers: { h: "x" } })],
      run: reads((value) => parseCredentials(value, "fuzz", "config")),
    },
    {
      name: ".dockercfg",
      weight: 1,
      seeds: [json({ "h.example": { auth: "YTpi", email: "x" } })],
      run: reads((value) => parseCredentials(value, "fuzz", "dockercfg")),
    },
    {
      name: "registries.conf",
      weight: 4,
      seeds: [
        text(
          'unqualified-search-registries = ["a"]\n[[registry]]\nprefix = "a.example"\nlocation = "b.example/c"\n[[registry.mirror]]\nlocation = "m.example"\n',
        ),
      ],
      run: reads((value) => parseRegistriesConf([{ path: "fuzz", text: value }])),
    },
    {
      name: "fault rules",
      weight: 1,
      seeds: [fixture("faults/busy.json"), fixture("faults/range-elsewhere.json")],
      run: (input) => parseFaultRules(input),
    },
    {
      name: "vendor profile",
      weight: 1,
      seeds: [fixture("profiles/ecr.json"), fixture("profiles/quay.json")],
      run: (input) => parseVendorProfile(input),
    },
    {
      name: "tar header",
      weight: 3,
      seeds: [archive.subarray(0, 512)],
      run: (input) => (input.length < 512 ? undefined : parseTarHeader(withChecksums(input).subarray(0, 512), "fuzz")),
    },
    {
      name: "pax of an archive",
      weight: 2,
      seeds: [
        paxBody([
          ["path", "some/long/p"],
          ["size", "12"],
        ]),
      ],
      run: (input) => parsePax(input, "fuzz"),
    },
    { name: "tar of a layer", weight: 12, seeds: [archive], run: (input) => readTar(withChecksums(input), [700]) },
    { name: "gzip of a layer", weight: 3, seeds: [gzipSync(archive), Buffer.concat([gzipSync("a"), gzipSync("b")])], run: inflate("gzip") },
    { name: "zstd of a layer", weight: 3, seeds: [zstdCompressSync(archive)], run: inflate("zstd") },
  ];
}
