import type { FaultRule } from "../src/registry-server/index.ts";

/**
 * Ways of a hostile registry to send a client, and its credentials, to another address. `elsewhere` is the origin of a
 * second server that records what it is sent; a credential of the first one that appears there has leaked.
 */
export const sendElsewhere = {
  /** The token endpoint is said to be there. CVE-2020-15157 and its kind. */
  tokenRealm: (elsewhere: string): readonly FaultRule[] => [
    unauthorized(`Bearer realm="${elsewhere}/auth/token",service="registry",scope="repository:library/app:pull,push"`),
  ],
  /** Blobs lie there. */
  blobRedirect: (elsewhere: string, status: 301 | 302 | 303 | 307 | 308 = 307): readonly FaultRule[] => [
    { match: { operation: "blob.get", count: "all" }, do: [{ kind: "respond", status, headers: { location: `${elsewhere}{path}` } }] },
  ],
  manifestRedirect: (elsewhere: string): readonly FaultRule[] => [
    {
      match: { operation: "manifest.get", count: "all" },
      do: [{ kind: "respond", status: 307, headers: { location: `${elsewhere}{path}` } }],
    },
  ],
  /** The upload goes on there. GHSA-jxpm-75mh-9fp7. */
  uploadLocation: (elsewhere: string): readonly FaultRule[] => [
    { match: { operation: "upload.start", count: "all" }, do: [{ kind: "headers", set: { location: `${elsewhere}{path}session` } }] },
  ],
  uploadRedirect: (elsewhere: string): readonly FaultRule[] => [
    {
      match: { operation: "upload.put", count: "all" },
      do: [{ kind: "respond", status: 307, headers: { location: `${elsewhere}{path}` } }],
    },
  ],
  /** The next page of tags is there. GHSA-h7vf-4x9w-h99v. */
  tagsPage: (elsewhere: string): readonly FaultRule[] => [
    { match: { operation: "tags.list", count: "all" }, do: [{ kind: "headers", set: { link: `<${elsewhere}{path}?n=1>; rel="next"` } }] },
  ],
  referrersPage: (elsewhere: string): readonly FaultRule[] => [
    { match: { operation: "referrers.list", count: "all" }, do: [{ kind: "headers", set: { link: `<${elsewhere}{path}>; rel="next"` } }] },
  ],
} as const;

/** Every request is refused with this challenge. */
function unauthorized(challenge: string): FaultRule {
  return { match: { path: "/v2/**", count: "all" }, do: [{ kind: "respond", status: 401, headers: { "www-authenticate": challenge } }] };
}
