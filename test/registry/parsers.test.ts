import { array, assert, constantFrom, ipV4, ipV6, nat, property, string, tuple } from "fast-check";
import { describe, expect, it } from "vitest";
import { isLoopbackHost, mayPoint, reachOf, type Reach } from "../../src/registry/addresses.ts";
import { parseChallenges } from "../../src/registry/challenge.ts";
import { parseContentRange, parseNextLink, parseUploadRange } from "../../src/registry/content-range.ts";
import { ReplyHeaders } from "../../src/registry/headers.ts";
import { defaultTimeouts } from "../../src/registry/options.ts";
import { Pools } from "../../src/registry/pools.ts";
import { proxyFor } from "../../src/registry/proxy.ts";
import { parseRealm, realmStanding } from "../../src/registry/realm.ts";
import { redactText, redactUrl } from "../../src/registry/redact.ts";
import { ownLocation } from "../../src/registry/redirects.ts";
import { Backoff, parseRetryAfter } from "../../src/registry/retry.ts";
import { mergeChallengeScope, scopesOf } from "../../src/registry/scopes.ts";
import { withDigest } from "../../src/registry/upload-session.ts";
import { absentDigest } from "./images.ts";

const flat = (headers: readonly string[]) =>
  parseChallenges(headers).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe("WWW-Authenticate", () => {
  it("is read as registries write it", () => {
    expect(
      flat(['Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push"']),
    ).toEqual([
      ["bearer", { realm: "https://auth.docker.io/token", service: "registry.docker.io", scope: "repository:library/alpine:pull,push" }],
    ]);
    expect(flat(['Basic realm="Sonatype \\"Nexus\\", inc."'])).toEqual([["basic", { realm: 'Sonatype "Nexus", inc.' }]]);
    expect(flat(["bearer realm=abc , Service = x"])).toEqual([["bearer", { realm: "abc", service: "x" }]]);
  });

  it("may hold several challenges, in one header or several, and credentials in place of parameters", () => {
    expect(flat(['Negotiate, Basic realm="a", Bearer realm="b",scope="c"', "NTLM dG9rZW4=", ""])).toEqual([
      ["negotiate", {}],
      ["basic", { realm: "a" }],
      ["bearer", { realm: "b", scope: "c" }],
      ["ntlm", {}],
    ]);
  });

  it("keeps the first of a repeated parameter", () => {
    expect(flat(['Bearer realm="good",realm="evil"'])).toEqual([["bearer", { realm: "good" }]]);
  });

  it("of any form ends, in time, without an error", () => {
    assert(
      property(array(string({ maxLength: 200 })), (headers) => parseChallenges(headers).length <= 16),
      { numRuns: 500 },
    );
    expect(parseChallenges([`Bearer ${",".repeat(100_000)}`]).length).toBeLessThan(17);
    expect(parseChallenges([`Bearer a="${"\\".repeat(100_000)}`]).length).toBeLessThan(17);
  });
});

describe("scopes", () => {
  it("keep the challenge's first and join what is about one repository", () => {
    const wanted = new Map([...scopesOf("a/b", "pull"), ...scopesOf("c", "pull")]);
    expect(mergeChallengeScope("repository:a/b:push", wanted)).toEqual(["repository:a/b:pull,push", "repository:c:pull"]);
    expect(mergeChallengeScope("registry:catalog:*", wanted)).toEqual(["registry:catalog:*", "repository:a/b:pull", "repository:c:pull"]);
    expect(mergeChallengeScope("aws", scopesOf("a", "pull"))).toEqual(["aws", "repository:a:pull"]);
    expect(mergeChallengeScope(undefined, scopesOf("a", "push", "pull"))).toEqual(["repository:a:pull,push"]);
  });
});

describe("a token service", () => {
  const standing = (registry: string, realm: string, trusted: { registry: string; realm: string }[] = []) =>
    realmStanding(new URL(registry), new URL(realm), trusted);

  it.each([
    ["https://ghcr.io", "https://ghcr.io/token"],
    ["https://registry.gitlab.com", "https://gitlab.com/jwt/auth"],
    ["https://example.com", "https://auth.example.com/token"],
    ["https://registry-1.docker.io", "https://auth.docker.io/token"],
    ["https://registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth"],
    ["https://r.example:5000", "https://r.example:5000/token"],
  ])("of %s is its own at %s", (registry, realm) => {
    expect(standing(registry, realm)).toBe("own");
  });

  it.each([
    ["https://ghcr.io", "https://ghcr.io.evil.example/token"],
    ["https://ghcr.io", "https://evil-ghcr.io/token"],
    ["https://ghcr.io", "https://ghcr.io:8443/token"],
    ["https://r.example:5000", "https://r.example/token"],
    ["http://127.0.0.1:5000", "http://127.0.0.1:5001/token"],
    ["https://tenant-a.azurecr.io", "https://tenant-b.azurecr.io/token"],
    ["https://registry.example.com", "https://auth.example.com/token"],
    ["https://registry.com", "https://com/token"],
    ["https://10.0.0.1", "https://0.1/token"],
    ["https://registry-1.docker.io", "https://auth.docker.com/token"],
    ["https://evil.example", "https://auth.docker.io/token"],
  ])("of %s is foreign at %s", (registry, realm) => {
    expect(standing(registry, realm)).toBe("foreign");
  });

  it("is trusted for the configured pair alone, port included", () => {
    const pair = [{ registry: "registry.example.com", realm: "auth.example.com" }];
    expect(standing("https://registry.example.com", "https://auth.example.com/token", pair)).toBe("own");
    expect(standing("https://other.example.com", "https://auth.example.com/token", pair)).toBe("foreign");
    expect(standing("https://registry.example.com", "https://auth.example.com:444/token", pair)).toBe("foreign");
    const forTheHub = [{ registry: "docker.io", realm: "auth.example.com" }];
    expect(standing("https://registry-1.docker.io", "https://auth.example.com/token", forTheHub)).toBe("own");
  });

  it("is an https URL for a registry on TLS", () => {
    const registry = new URL("https://r.example");
    for (const realm of [
      undefined,
      "",
      "token",
      "/token",
      "http://r.example/token",
      "ftp://r.example",
      "https://u:p@r.example/token",
      "javascript:1",
    ]) {
      expect(() => parseRealm(registry, realm)).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_REALM_REFUSED" }));
    }
    expect(parseRealm(registry, "https://r.example/token#x").href).toBe("https://r.example/token");
  });
});

describe("addresses", () => {
  it.each<[string, Reach]>([
    ["127.0.0.1", "loopback"],
    ["127.255.1.1", "loopback"],
    ["0.0.0.0", "loopback"],
    ["::1", "loopback"],
    ["[::1]", "loopback"],
    ["::", "loopback"],
    ["::ffff:127.0.0.1", "loopback"],
    ["::ffff:7f00:1", "loopback"],
    ["::127.0.0.1", "loopback"],
    ["64:ff9b::7f00:1", "loopback"],
    ["2002:7f00:1::", "loopback"],
    ["169.254.169.254", "link-local"],
    ["fe80::1", "link-local"],
    ["::ffff:169.254.169.254", "link-local"],
    ["64:ff9b::a9fe:a9fe", "link-local"],
    ["2002:a9fe:a9fe::1", "link-local"],
    ["10.1.2.3", "private"],
    ["172.16.0.1", "private"],
    ["172.31.255.255", "private"],
    ["192.168.1.1", "private"],
    ["100.64.0.1", "private"],
    ["224.0.0.1", "private"],
    ["255.255.255.255", "private"],
    ["fd00::1", "private"],
    ["ff02::1", "private"],
    ["64:ff9b::a00:1", "private"],
    ["172.32.0.1", "public"],
    ["8.8.8.8", "public"],
    ["100.128.0.1", "public"],
    ["2606:4700::1111", "public"],
    ["64:ff9b::808:808", "public"],
    ["2002:808:808::1", "public"],
  ])("%s is %s", (address, reach) => {
    expect(reachOf(address)).toBe(reach);
  });

  it("mean the same however an IPv6 address wraps them, and names are no addresses", () => {
    assert(
      property(ipV4(), (address) => {
        const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
        const high = ((a << 8) | b).toString(16);
        const low = ((c << 8) | d).toString(16);
        const expected = reachOf(address);
        return [`::ffff:${address}`, `::ffff:${high}:${low}`, `64:ff9b::${address}`, `2002:${high}:${low}::5`].every(
          (text) => reachOf(text) === expected,
        );
      }),
    );
    assert(property(ipV6(), (address) => reachOf(address) !== undefined));
    expect(reachOf("registry.example")).toBeUndefined();
  });

  it("may only be pointed to from as near", () => {
    expect(mayPoint("public", "private")).toBe(false);
    expect(mayPoint("public", "loopback")).toBe(false);
    expect(mayPoint("private", "link-local")).toBe(false);
    expect(mayPoint("private", "public")).toBe(true);
    expect(mayPoint("loopback", "loopback")).toBe(true);
  });

  it("are checked before a connection is made to where a registry points", async () => {
    const pools = new Pools({}, defaultTimeouts);
    for (const url of [
      "http://127.0.0.1/",
      "http://169.254.169.254/latest",
      "http://[::ffff:10.0.0.1]/",
      "http://2130706433/",
      "http://0x7f.1/",
    ]) {
      expect(() => pools.for(new URL(url), { kind: "pointed-to", from: "public" }, "content")).toThrow(
        expect.objectContaining({ code: "ERR_REGISTRY_REDIRECT_REFUSED" }),
      );
    }
    const rebinding = pools.for(new URL("http://localhost:1/"), { kind: "pointed-to", from: "public" }, "content");
    await expect(rebinding.request({ origin: "http://localhost:1", path: "/", method: "GET" })).rejects.toMatchObject({
      code: "ERR_REGISTRY_REDIRECT_REFUSED",
    });
    await pools.destroy();
  });

  it("of loopback have names too", () => {
    for (const name of ["localhost", "LOCALHOST", "a.localhost", "localhost.", "127.0.0.1", "[::1]"])
      expect(isLoopbackHost(name)).toBe(true);
    for (const name of ["localhost.example", "notlocalhost", "127.0.0.1.example", "10.0.0.1"]) expect(isLoopbackHost(name)).toBe(false);
  });
});

describe("small headers", () => {
  it("Content-Range", () => {
    expect(parseContentRange("bytes 0-99/1000")).toEqual({ start: 0, end: 100, size: 1000 });
    expect(parseContentRange("bytes 5-5/*")).toEqual({ start: 5, end: 6, size: undefined });
    for (const text of [
      undefined,
      "",
      "bytes */10",
      "bytes 5-4/10",
      "bytes 0-10/10",
      "bytes 0-9",
      "0-9/10",
      "bytes -1-9/10",
      "bytes 0-9/10, 20-29/30",
      `bytes 0-${"9".repeat(20)}/*`,
    ]) {
      expect(parseContentRange(text)).toBeUndefined();
    }
  });

  it("Range of an upload", () => {
    expect(parseUploadRange("0-99")).toBe(100);
    expect(parseUploadRange("bytes=0-99")).toBe(100);
    expect(parseUploadRange("0-0")).toBe("0-or-1");
    for (const text of [undefined, "", "1-99", "0-", "x"]) expect(parseUploadRange(text)).toBeUndefined();
  });

  it("Link", () => {
    expect(parseNextLink(['</v2/a/tags/list?last=b&n=1>; rel="next"'])).toBe("/v2/a/tags/list?last=b&n=1");
    expect(parseNextLink(['<x>; rel=prev, <y>; title="a, b"; rel=next'])).toBe("y");
    expect(parseNextLink(['<x>; rel="prev"', "<z>; rel=next"])).toBe("z");
    for (const text of ["", "x", "<x>", '<x>; rel="nextpage"', '<x>; title="rel=next"']) expect(parseNextLink([text])).toBeUndefined();
    assert(property(string({ maxLength: 300 }), (text) => typeof parseNextLink([text]) !== "number"));
  });

  it("Retry-After", () => {
    const now = Date.parse("2026-11-24T00:00:00Z");
    expect(parseRetryAfter("120", now)).toBe(120_000);
    expect(parseRetryAfter("Tue, 24 Nov 2026 00:00:30 GMT", now)).toBe(30_000);
    expect(parseRetryAfter("Mon, 23 Nov 2026 00:00:30 GMT", now)).toBe(0);
    for (const text of [undefined, "", "soon", "-1", "1e9", "2026-11-24"]) expect(parseRetryAfter(text, now)).toBeUndefined();
  });

  it("that stand twice with different values are refused", () => {
    const headers = new ReplyHeaders({
      location: ["a", "b"],
      same: ["a", "a"],
      "content-type": "Text/HTML; charset=x",
      "content-length": "12",
    });
    expect(() => headers.one("location")).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_PROTOCOL" }));
    expect([headers.one("same"), headers.mediaType(), headers.contentLength(), headers.one("absent")]).toEqual([
      "a",
      "text/html",
      12,
      undefined,
    ]);
  });
});

describe("locations", () => {
  const origin = new URL("https://r.example");
  const base = new URL("https://r.example/v2/a/blobs/uploads/");
  const at = (location: string) => ownLocation(location, base, origin, "x").href;

  it("stay on the registry's origin, in whatever form it writes them", () => {
    expect(at("/v2/a/blobs/uploads/1?_state=a%2Fb%3D&x=%20")).toBe("https://r.example/v2/a/blobs/uploads/1?_state=a%2Fb%3D&x=%20");
    expect(at("1?x")).toBe("https://r.example/v2/a/blobs/uploads/1?x");
    expect(at("//r.example/u")).toBe("https://r.example/u");
    expect(at("https://r.example:443/u#f")).toBe("https://r.example/u");
    expect(at("http://r.example/u?a=b")).toBe("https://r.example/u?a=b");
    expect(at("http://r.example//evil.example/u")).toBe("https://r.example//evil.example/u");
  });

  it.each([
    "https://evil.example/u",
    "//evil.example/u",
    "https://r.example:444/u",
    "http://r.example:8080/u",
    "https://u:p@r.example/u",
    "file:///u",
    "\\\\evil.example\\u",
  ])("do not lead to %s", (location) => {
    expect(() => at(location)).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_REDIRECT_REFUSED" }));
  });

  it("get the digest added and nothing else changed", () => {
    for (const query of ["", "?a=1", "?_state=x%2B%2f==&y", "?a=%7e~"]) {
      const url = new URL(`https://r.example/u${query}`);
      expect(withDigest(url, absentDigest).href).toBe(`https://r.example/u${query === "" ? "?" : `${query}&`}digest=${absentDigest}`);
    }
  });
});

describe("proxies", () => {
  const settings = (noProxy: string) => ({ https: "proxy.example:3128", http: "http://plain.example", noProxy });
  const used = (url: string, noProxy = "") => proxyFor(new URL(url), settings(noProxy))?.href;

  it("are chosen by scheme, and never for loopback", () => {
    expect(used("https://r.example")).toBe("http://proxy.example:3128/");
    expect(used("http://r.example")).toBe("http://plain.example/");
    for (const host of ["localhost", "127.0.0.1", "[::1]", "a.localhost"]) expect(used(`https://${host}`)).toBeUndefined();
    expect(proxyFor(new URL("https://r.example"), undefined)).toBeUndefined();
  });

  it.each(["*", "r.example", "example", ".example", "*.example", "R.EXAMPLE", "a, r.example b", "r.example:443"])(
    "are left out by NO_PROXY=%s",
    (noProxy) => {
      expect(used("https://r.example", noProxy)).toBeUndefined();
    },
  );

  it.each(["xr.example", "r.example.x", "r.example:444", "ample", "10.0.0.0/8"])("are not left out by NO_PROXY=%s", (noProxy) => {
    expect(used("https://r.example", noProxy)).toBeDefined();
  });

  it("know addresses and blocks", () => {
    expect(used("https://10.1.2.3", "10.0.0.0/8")).toBeUndefined();
    expect(used("https://10.1.2.3", "10.1.2.3")).toBeUndefined();
    expect(used("https://[fd00::1]", "fd00::/8")).toBeUndefined();
    expect(used("https://11.1.2.3", "10.0.0.0/8")).toBeDefined();
    expect(used("https://10.1.2.3", "10.0.0.0/99")).toBeDefined();
  });
});

describe("what is printed", () => {
  it("holds no query, no user information, no token, no control character, and has an end", () => {
    expect(redactUrl(new URL("https://u:p@h.example/a?X-Amz-Signature=abc#f"))).toBe("https://h.example/a?…");
    const text = redactText('see https://u:p@h/a?sig=abc Bearer eyJhbGciOiJIUzI1NiJ9 {"token":"abc"} password=hunter2 \u001b[31m');
    for (const secret of ["u:p", "sig=abc", "eyJ", "abc", "hunter2", "\u001b"]) expect(text).not.toContain(secret);
    expect(redactText("x".repeat(10_000)).length).toBeLessThan(302);
  });

  it.each([
    '{"identitytoken":"hunter2"}',
    "client_secret=hunter2",
    "id_token: hunter2",
    "api_key: hunter2",
    "passwd=hunter2",
    "X-Amz-Signature=hunter2&x=1",
    "X-Goog-Signature%3Dhunter2",
    "?sv=1&sig=hunter2",
    "Authorization: Basic aHVudGVyMjpodW50ZXIy",
  ])("hides the secret in %s", (text) => {
    expect(redactText(`refused: ${text} end`)).not.toMatch(/hunter2|aHVudGVy/);
  });

  it("hides a secret wherever it stands in a query", () => {
    const words = constantFrom("a", "b=1", "sig=2", "x%20y");
    assert(
      property(array(words), array(words), nat(), (before, after, n) => {
        const secret = `s3cr3t${n}`;
        return !redactText(`bad https://h.example/p?${[...before, `k=${secret}`, ...after].join("&")} end`).includes(secret);
      }),
    );
  });
});

describe("pauses", () => {
  it("stay within attempts and budget, and honour what was asked", () => {
    const policy = { attempts: 5, baseMs: 10, maxMs: 40, budgetMs: 1000 };
    assert(
      property(array(tuple(nat({ max: 400 }), constantFrom(true, false)), { minLength: 1, maxLength: 20 }), (asked) => {
        const backoff = new Backoff(policy);
        let total = 0;
        let count = 0;
        for (const [ms, given] of asked) {
          const wait = backoff.next(given ? ms : undefined);
          if (wait === undefined) break;
          if (given && wait < ms) return false;
          total += wait;
          count += 1;
        }
        return total <= policy.budgetMs && count < policy.attempts;
      }),
    );
    expect(new Backoff(policy).next(1001)).toBeUndefined();
  });

  it("begin anew when bytes have moved", () => {
    const backoff = new Backoff({ attempts: 2, baseMs: 1, maxMs: 1, budgetMs: 10 });
    expect(backoff.next()).toBeDefined();
    expect(backoff.next()).toBeUndefined();
    backoff.progressed();
    expect(backoff.next()).toBeDefined();
  });
});
