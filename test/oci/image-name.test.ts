import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatImageName, OciError, parseImageName, parseRepositoryName, type ImageName } from "../../src/oci/index.ts";

const hex = "0123456789abcdef".repeat(4);
const digest = `sha256:${hex}` as const;

/** [what is typed, host, repository, tag, digest] */
const good: readonly (readonly [string, string, string, string | undefined, string | undefined])[] = [
  ["alpine", "docker.io", "library/alpine", "latest", undefined],
  ["alpine:3.20", "docker.io", "library/alpine", "3.20", undefined],
  ["user/app", "docker.io", "user/app", "latest", undefined],
  ["docker:dind", "docker.io", "library/docker", "dind", undefined],
  ["docker.io/alpine", "docker.io", "library/alpine", "latest", undefined],
  ["index.docker.io/user/app:1", "docker.io", "user/app", "1", undefined],
  ["registry-1.docker.io/alpine", "docker.io", "library/alpine", "latest", undefined],
  ["Docker.IO/alpine", "docker.io", "library/alpine", "latest", undefined],
  ["localhost/app", "localhost", "app", "latest", undefined],
  ["localhost:5000/app:1.0", "localhost:5000", "app", "1.0", undefined],
  ["localhost:5000", "docker.io", "library/localhost", "5000", undefined],
  ["docker://localhost:5000/a/b/c:1", "localhost:5000", "a/b/c", "1", undefined],
  ["LocalHost/app", "localhost", "app", "latest", undefined],
  ["registry.example.com:443/a__b/c.d/e---f_g", "registry.example.com:443", "a__b/c.d/e---f_g", "latest", undefined],
  ["127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest", undefined],
  ["[::1]:5000/app:1", "[::1]:5000", "app", "1", undefined],
  ["[2001:DB8:0::1]/app", "[2001:db8::1]", "app", "latest", undefined],
  [`app@${digest}`, "docker.io", "library/app", undefined, digest],
  [`localhost:5000/app:1@${digest}`, "localhost:5000", "app", "1", digest],
  [`docker.io/sha256@${digest}`, "docker.io", "library/sha256", undefined, digest],
  [`r.example/a:_x-Y.z`, "r.example", "a", "_x-Y.z", undefined],
  [`r.example/${"a".repeat(255)}`, "r.example", "a".repeat(255), "latest", undefined],
  [`a:${"t".repeat(128)}`, "docker.io", "library/a", "t".repeat(128), undefined],
];

/** [what is typed, position from 1, a part of the reason] */
const bad: readonly (readonly [string, number, string])[] = [
  ["", 1, "empty"],
  ["docker://", 10, "empty"],
  ["Alpine", 1, "upper-case"],
  ["user/App", 6, "upper-case"],
  ["REG/app", 1, "upper-case"],
  ["user//app", 6, "empty"],
  ["user/app/", 10, "empty"],
  ["/app", 1, "missing before the slash"],
  ["app:", 5, "tag is missing"],
  ["app:a b", 6, "white space"],
  ["app:ä", 5, "ASCII"],
  ["app:a/b:c:d", 5, "port number"],
  ["app/b:c:d", 8, "not allowed in a tag"],
  ["app:.x", 5, "begins with"],
  ["app:a+b", 6, "not allowed in a tag"],
  [`app:${"t".repeat(129)}`, 133, "more than 128"],
  ["a..b/c", 3, "label of the host"],
  ["a___b", 4, "two underscores"],
  ["a._b", 3, "two underscores"],
  ["_a", 1, "begins and ends"],
  ["a-", 2, "begins and ends"],
  ["a/b-/c", 4, "begins and ends"],
  ["a%b", 2, "not allowed in a repository"],
  [`app@${digest.toUpperCase()}`, 5, "not supported"],
  [`app@sha256:${hex.toUpperCase()}`, 22, "lower-case"],
  [`app@sha256:${hex.slice(1)}`, 75, "64 hex digits, this one 63"],
  [`app@sha256:${hex}0`, 76, "64 hex digits, this one 65"],
  [`app@md5:${hex.slice(32)}`, 5, "not supported"],
  [`app@sha256`, 11, "ALGORITHM:HEX"],
  [`app@${digest}@${digest}`, 76, "lower-case hex"],
  [`docker.io/sha256:${hex}`, 17, "written after @"],
  [`r.example/a/sha512:${hex}${hex}`, 19, "written after @"],
  [hex, 1, "image ID"],
  ["reg_x.example/a", 4, "not allowed in a host"],
  ["-r.example/a", 1, "letter or digit"],
  ["r.example:99999/a", 11, "65535"],
  ["r.example:0/a", 11, "65535"],
  ["r.example:080/a", 11, "65535"],
  ["r.example:/a", 11, "port number"],
  ["r.example:8o/a", 12, "port number"],
  ["r.example./a", 11, "label of the host"],
  ["127.1/a", 1, "another spelling of 127.0.0.1"],
  ["0x7f.1/a", 1, "another spelling"],
  ["1.2.3.4.5/a", 1, "not a host"],
  ["[::1/a", 5, "] of an IPv6"],
  ["[::1%25eth0]/a", 5, "zone"],
  ["[::1]x/a", 6, "only a port"],
  ["[::g]/a", 2, "not an IPv6"],
  ["[::1]:5000", 11, "/NAME"],
  [`r.example/${"a".repeat(256)}`, 266, "256 characters"],
  [`r.example/${"a/".repeat(128)}b`, 266, "257 characters"],
  [`${"a".repeat(64)}.example/a`, 64, "more than 63"],
  ["https://r.example/a", 1, "not a transport"],
  ["docker:///a", 10, "missing before the slash"],
  ["docker-daemon:alpine:latest", 1, "not supported"],
  ["containers-storage:alpine", 1, "not supported"],
  ["oci:", 5, "directory is missing"],
  ["oci::tag", 5, "directory is missing"],
  ["oci:dir:", 9, "reference is missing"],
  ["oci:dir:a b", 10, "not allowed in a reference"],
  ["oci:dir:../x", 9, "letter or digit"],
  ["oci:dir:a/../x", 10, "letter or digit"],
  ["oci:dir\0x", 8, "control characters"],
  ["oci-archive:", 13, "file is missing"],
  ["docker-archive:f.tar:App", 22, "upper-case"],
  [`docker-archive:f.tar:app@${digest}`, 25, "no digests"],
  ["dir:", 5, "directory is missing"],
];

describe("image names", () => {
  it.each(good)("reads %s", (text, host, repository, tag, wanted) => {
    expect(parseImageName(text)).toEqual({
      transport: "docker",
      host,
      repository,
      ...(tag === undefined ? {} : { tag }),
      ...(wanted === undefined ? {} : { digest: wanted }),
    });
  });

  it.each(bad)("refuses %j at character %i: %s", (text, position, reason) => {
    let error: unknown;
    try {
      parseImageName(text);
    } catch (caught) {
      error = caught;
    }
    if (!(error instanceof OciError)) throw new Error(`${text} was read, or failed with ${String(error)}`);
    expect(error.code).toBe("ERR_IMAGE_NAME_MALFORMED");
    expect(error.category).toBe("usage");
    expect(error.details["position"]).toBe(position);
    expect(error.message).toContain(reason);
    expect(error.hint).toBeTruthy();
  });

  it("reads the transports of skopeo, the first colon after the path ending it", () => {
    expect(parseImageName("oci:some/dir")).toEqual({ transport: "oci", path: "some/dir" });
    expect(parseImageName("oci:/d:localhost:5000/app:1.0")).toEqual({ transport: "oci", path: "/d", reference: "localhost:5000/app:1.0" });
    expect(parseImageName("oci:d:@1")).toEqual({ transport: "oci", path: "d", reference: "@1" });
    expect(parseImageName(`oci:d:${digest}`)).toEqual({ transport: "oci", path: "d", reference: digest });
    expect(parseImageName("oci-archive:a.tar:v1")).toEqual({ transport: "oci-archive", path: "a.tar", reference: "v1" });
    expect(parseImageName("docker-archive:a.tar:alpine")).toEqual({
      transport: "docker-archive",
      path: "a.tar",
      reference: "docker.io/library/alpine:latest",
    });
    expect(parseImageName("dir:/a:b")).toEqual({ transport: "dir", path: "/a:b" });
  });

  it("reads repositories, and refuses a tag there", () => {
    expect(parseRepositoryName("docker://localhost:5000/sig/store")).toEqual({ host: "localhost:5000", repository: "sig/store" });
    expect(parseRepositoryName("alpine")).toEqual({ host: "docker.io", repository: "library/alpine" });
    expect(() => parseRepositoryName("localhost:5000/a:1")).toThrow(/character 17/);
  });

  it("gives every name back that it formatted", () => {
    const component = fc.stringMatching(/^[a-z0-9]{1,8}(?:(?:\.|__?|-{1,3})[a-z0-9]{1,8}){0,2}$/);
    const host = fc.oneof(
      fc.constantFrom("docker.io", "localhost", "localhost:5000", "[::1]:5000", "[2001:db8::1]", "127.0.0.1:1"),
      fc.stringMatching(/^[a-z][a-z0-9]{0,8}(?:-[a-z0-9]{1,4})?\.example(?::[1-9][0-9]{0,3})?$/),
    );
    const repository = fc.array(component, { minLength: 2, maxLength: 4 }).map((parts) => parts.join("/"));
    const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/);
    const name = fc.oneof(
      fc.record({ transport: fc.constant("docker" as const), host, repository, tag }),
      fc.record({ transport: fc.constant("docker" as const), host, repository, digest: fc.constant(digest) }),
      fc.record({ transport: fc.constant("docker" as const), host, repository, tag, digest: fc.constant(digest) }),
      fc.record({
        transport: fc.constantFrom("oci" as const, "oci-archive" as const),
        path: fc.stringMatching(/^[^:\p{Cc}]{1,20}$/u),
        reference: fc.stringMatching(/^[A-Za-z0-9]{1,5}(?:(?:--|[-._:@+/])[A-Za-z0-9]{1,5}){0,4}$/),
      }),
      fc.record({ transport: fc.constant("dir" as const), path: fc.stringMatching(/^[^\p{Cc}]{1,20}$/u) }),
    );
    fc.assert(
      fc.property(name, (image: ImageName) => {
        expect(parseImageName(formatImageName(image))).toEqual(image);
      }),
      { numRuns: 500 },
    );
  });

  it("answers any text with a name or with a position inside it, quickly", () => {
    const pieces = fc.constantFrom(
      "docker://",
      "oci:",
      "localhost",
      ":",
      "/",
      "@",
      "sha256:",
      hex,
      "a",
      "A",
      ".",
      "-",
      "_",
      "[",
      "]",
      "%",
      " ",
      "é",
      "\0",
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(pieces, fc.string({ maxLength: 5 })), { maxLength: 12 }), (parts) => {
        const text = parts.join("");
        let parsed: ImageName | undefined;
        let position: unknown = 1;
        try {
          parsed = parseImageName(text);
        } catch (error) {
          if (!(error instanceof OciError)) throw error;
          position = error.details["position"];
        }
        expect(position).toBeGreaterThanOrEqual(1);
        expect(position).toBeLessThanOrEqual(text.length + 1);
        expect(parsed === undefined ? undefined : parseImageName(formatImageName(parsed))).toEqual(parsed);
      }),
      { numRuns: 2000 },
    );
  });

  it("refuses a name of a million characters by its length", () => {
    expect(() => parseImageName(`${"a-".repeat(500_000)}!`)).toThrow(/more than 4096/);
  });
});
