import { generateKeyPairSync } from "node:crypto";

/** A policy and whether containers/image takes it. */
export interface PolicyCase {
  readonly name: string;
  readonly text: string;
  readonly valid: boolean;
  /** Where our verdict is meant to differ from skopeo's, and why. */
  readonly deviation?: string;
}

export const pem = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "pem", type: "spki" }).toString();
const b64 = Buffer.from(pem).toString("base64");

function withDefault(requirement: unknown): string {
  return JSON.stringify({ default: [requirement] });
}

function sigstore(members: object): string {
  return withDefault({ type: "sigstoreSigned", ...members });
}

function identity(signedIdentity: unknown): string {
  return sigstore({ keyData: b64, signedIdentity });
}

function scope(transport: string, name: string): string {
  return JSON.stringify({ default: [{ type: "reject" }], transports: { [transport]: { [name]: [{ type: "reject" }] } } });
}

const reject = { type: "reject" };
const fulcio = { caData: b64, oidcIssuer: "https://issuer.test", subjectEmail: "me@example.test" };
const pki = { caRootsData: b64, subjectEmail: "me@example.test" };

/** Every rule of the grammar at least once kept and once broken. Measured with skopeo 1.18 and 1.22. */
export const policyCases: readonly PolicyCase[] = [
  ["the smallest policy", withDefault(reject), true],
  ["accepting anything", withDefault({ type: "insecureAcceptAnything" }), true],
  ["an empty object", "{}", false],
  ["no JSON", "not json", false],
  ["a list", "[]", false],
  ["a trailing text", `${withDefault(reject)} x`, false],
  ["a comment", `{"default":[{"type":"reject"}] // why\n}`, false],
  ["an unknown member at the top", JSON.stringify({ default: [reject], extra: 1 }), false],
  ["default in another case", JSON.stringify({ Default: [reject] }), false],
  ["default twice", `{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}`, false],
  ["default null", JSON.stringify({ default: null }), false],
  ["default as an object", JSON.stringify({ default: reject }), false],
  ["an empty default", JSON.stringify({ default: [] }), false],
  ["an unknown type", withDefault({ type: "sigstore" }), false],
  ["a type in another case", withDefault({ type: "Reject" }), false],
  ["no type", withDefault({}), false],
  ["a requirement that is text", withDefault("reject"), false],
  ["a null requirement", withDefault(null), false],
  ["reject with a member", withDefault({ type: "reject", why: "x" }), false],
  ["a type twice", `{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}`, false],
  ["transports null", JSON.stringify({ default: [reject], transports: null }), false],
  ["transports empty", JSON.stringify({ default: [reject], transports: {} }), true],
  ["an unknown transport", scope("carrier-pigeon", "anything at all"), true],
  ["a docker scope", scope("docker", "example.com/app"), true],
  ["a docker wildcard", scope("docker", "*.example.com"), true],
  ["the empty scope", scope("docker", ""), true],
  ["an empty list in a scope", JSON.stringify({ default: [reject], transports: { docker: { "": [] } } }), false],
  ["a scope that is no list", JSON.stringify({ default: [reject], transports: { docker: { "": reject } } }), false],
  [
    "a scope twice",
    `{"default":[{"type":"reject"}],"transports":{"docker":{"a.test":[{"type":"reject"}],"a.test":[{"type":"reject"}]}}}`,
    false,
  ],
  ["a transport twice", `{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}`, false],
  ["a dir scope", scope("dir", "/var/images"), true],
  ["a relative dir scope", scope("dir", "images"), false],
  ["a dir scope with dots", scope("dir", "/var/../images"), false],
  ["a dir scope that ends in a slash", scope("dir", "/var/"), false],
  ["the root as dir scope", scope("dir", "/"), false],
  ["an oci scope", scope("oci", "/var/images"), true],
  ["a relative oci scope", scope("oci", "images"), false],
  ["a docker-archive scope", scope("docker-archive", "/x.tar"), false],
  ["keyData", sigstore({ keyData: b64 }), true],
  ["keyData with line breaks", sigstore({ keyData: b64.replace(/.{60}/g, "$&\n") }), true],
  ["keyData with other base64", sigstore({ keyData: "!!!!" }), false],
  ["keyData without padding", sigstore({ keyData: b64.replace(/=+$/, "").slice(0, -1) }), false],
  ["keyData as PEM text", sigstore({ keyData: pem }), false, "image-rs reads it so; it cannot weaken"],
  ["keyPath", sigstore({ keyPath: "/nonexistent/key.pub" }), true],
  ["keyPath empty", sigstore({ keyPath: "" }), false],
  ["keyPath a number", sigstore({ keyPath: 7 }), false],
  ["keyPaths", sigstore({ keyPaths: ["/a", "/b"] }), true],
  ["keyPaths empty", sigstore({ keyPaths: [] }), false],
  ["keyPaths as text", sigstore({ keyPaths: "/a" }), false],
  ["keyDatas", sigstore({ keyDatas: [b64, b64] }), true],
  ["keyDatas empty", sigstore({ keyDatas: [] }), false],
  ["keyDatas with other base64", sigstore({ keyDatas: [b64, "*"] }), false],
  ["no key at all", sigstore({}), false],
  ["two kinds of key", sigstore({ keyData: b64, keyPath: "/a" }), false],
  ["a key and fulcio", sigstore({ keyData: b64, fulcio, rekorPublicKeyData: b64 }), false],
  ["a misspelt member", sigstore({ keydata: b64 }), false],
  ["an unknown member", sigstore({ keyData: b64, comment: "x" }), false],
  ["a key twice", `{"default":[{"type":"sigstoreSigned","keyPath":"/a","keyPath":"/b"}]}`, false],
  ["a log key", sigstore({ keyData: b64, rekorPublicKeyData: b64 }), true],
  ["a log key path", sigstore({ keyData: b64, rekorPublicKeyPath: "/log.pub" }), true],
  ["log keys", sigstore({ keyData: b64, rekorPublicKeyDatas: [b64] }), true],
  ["log key paths", sigstore({ keyData: b64, rekorPublicKeyPaths: ["/log.pub"] }), true],
  ["log key paths empty", sigstore({ keyData: b64, rekorPublicKeyPaths: [] }), false],
  ["two kinds of log keys", sigstore({ keyData: b64, rekorPublicKeyData: b64, rekorPublicKeyPath: "/a" }), false],
  ["an empty log key path", sigstore({ keyData: b64, rekorPublicKeyPath: "" }), true, "skopeo reads it as no log at all; a log was meant"],
  ["fulcio with a log key", sigstore({ fulcio, rekorPublicKeyData: b64 }), true],
  ["fulcio without log key", sigstore({ fulcio }), false],
  ["fulcio without issuer", sigstore({ fulcio: { ...fulcio, oidcIssuer: undefined }, rekorPublicKeyData: b64 }), false],
  ["fulcio without e-mail", sigstore({ fulcio: { ...fulcio, subjectEmail: undefined }, rekorPublicKeyData: b64 }), false],
  ["fulcio without authority", sigstore({ fulcio: { ...fulcio, caData: undefined }, rekorPublicKeyData: b64 }), false],
  ["fulcio with two authorities", sigstore({ fulcio: { ...fulcio, caPath: "/ca" }, rekorPublicKeyData: b64 }), false],
  ["fulcio with an unknown member", sigstore({ fulcio: { ...fulcio, subjectURI: "x" }, rekorPublicKeyData: b64 }), false],
  ["pki", sigstore({ pki }), true],
  ["pki with host", sigstore({ pki: { caRootsPath: "/ca", subjectHostname: "ci.example.test" } }), true],
  ["pki with intermediates", sigstore({ pki: { ...pki, caIntermediatesPath: "/i" } }), true],
  ["pki without roots", sigstore({ pki: { subjectEmail: "me@example.test" } }), false],
  ["pki without subject", sigstore({ pki: { caRootsData: b64 } }), false],
  ["pki with two roots", sigstore({ pki: { ...pki, caRootsPath: "/ca" } }), false],
  ["pki with two intermediates", sigstore({ pki: { ...pki, caIntermediatesPath: "/i", caIntermediatesData: b64 } }), false],
  ["pki with a log key", sigstore({ pki, rekorPublicKeyData: b64 }), false],
  ["matchExact", identity({ type: "matchExact" }), true],
  ["matchRepoDigestOrExact", identity({ type: "matchRepoDigestOrExact" }), true],
  ["matchRepository", identity({ type: "matchRepository" }), true],
  ["matchRepository with a member", identity({ type: "matchRepository", x: 1 }), false],
  ["an unknown identity", identity({ type: "matchAnything" }), false],
  ["an identity that is text", identity("matchRepository"), false],
  ["a null identity", identity(null), false],
  ["exactReference", identity({ type: "exactReference", dockerReference: "example.com/app:1" }), true],
  ["exactReference by digest", identity({ type: "exactReference", dockerReference: `example.com/app@sha256:${"a".repeat(64)}` }), true],
  ["exactReference without tag", identity({ type: "exactReference", dockerReference: "example.com/app" }), false],
  ["exactReference malformed", identity({ type: "exactReference", dockerReference: "UPPER/app:1 x" }), false],
  ["exactReference missing", identity({ type: "exactReference" }), false],
  ["exactRepository", identity({ type: "exactRepository", dockerRepository: "example.com/app" }), true],
  ["exactRepository short", identity({ type: "exactRepository", dockerRepository: "app" }), true],
  ["exactRepository malformed", identity({ type: "exactRepository", dockerRepository: "-app" }), false],
  ["exactRepository of hex digits", identity({ type: "exactRepository", dockerRepository: "a".repeat(64) }), false],
  ["remapIdentity", identity({ type: "remapIdentity", prefix: "mirror.test", signedPrefix: "example.com/app" }), true],
  ["remapIdentity with port", identity({ type: "remapIdentity", prefix: "mirror.test:5000", signedPrefix: "example.com" }), true],
  [
    "remapIdentity with a slash at the end",
    identity({ type: "remapIdentity", prefix: "mirror.test/", signedPrefix: "example.com" }),
    false,
  ],
  ["remapIdentity with a tag", identity({ type: "remapIdentity", prefix: "mirror.test/a:1", signedPrefix: "example.com" }), false],
  ["remapIdentity without signedPrefix", identity({ type: "remapIdentity", prefix: "mirror.test" }), false],
  ["signedBy", withDefault({ type: "signedBy", keyType: "GPGKeys", keyPath: "/key.gpg" }), true],
  ["signedBy with several", withDefault({ type: "signedBy", keyType: "GPGKeys", keyPaths: ["/a", "/b"] }), true],
  ["signedBy without keyType", withDefault({ type: "signedBy", keyPath: "/key.gpg" }), false],
  ["signedBy with an unknown keyType", withDefault({ type: "signedBy", keyType: "PGP", keyPath: "/key.gpg" }), false],
  ["signedBy without key", withDefault({ type: "signedBy", keyType: "GPGKeys" }), false],
  ["signedBaseLayer", withDefault({ type: "signedBaseLayer", baseLayerIdentity: { type: "matchRepository" } }), true],
  ["signedBaseLayer without identity", withDefault({ type: "signedBaseLayer" }), false],
].map(([name, text, valid, deviation]) => ({ name, text, valid, ...(deviation === undefined ? {} : { deviation }) }) as PolicyCase);
