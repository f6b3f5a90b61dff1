import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "@sigstore/core";
import { fulcioHandler, initializeCA, initializeCTLog, initializeTSA, tsaHandler } from "@sigstore/mock";
import { TestLog, type Inclusion } from "./test-log.ts";

/**
 * Fulcio, a certificate log, Rekor v1, Rekor v2 and a timestamp authority on loopback, with real cryptography. The two
 * authorities are those of @sigstore/mock; the logs are ours, because its v2 log writes entries that nobody accepts.
 */
export interface SigstoreServices {
  readonly url: string;
  readonly requests: readonly string[];
  readonly trustedRoot: object;
  readonly rekorKey: TestLog["publicKey"];
  readonly caPem: string;
  signingConfig(rekor: 1 | 2 | undefined, timestamps: "with-timestamps" | "without-timestamps"): object;
  close(): Promise<void>;
}

type Json = Readonly<Record<string, unknown>>;

const keyPair = () => generateKeyPairSync("ec", { namedCurve: "P-256" });

export interface ServiceClocks {
  /** What the timestamp authority believes the time to be. */
  readonly timestamps?: Date;
  /** What Fulcio believes the time to be. */
  readonly certificates?: Date;
}

export async function startSigstoreServices(clocks: ServiceClocks = {}): Promise<SigstoreServices> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    void (async () => {
      const body = await readBody(request);
      requests.push(`${request.method} ${request.url}`);
      const answer = await handle(request, body).catch((error: unknown) => ({ status: 400, body: String(error), headers: {} }));
      response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
      response.end(answer.body);
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;

  const ctlog = await initializeCTLog(keyPair());
  const ca = await initializeCA(keyPair(), ctlog, clocks.certificates);
  const tsa = await initializeTSA(keyPair(), clocks.timestamps);
  const rekor1 = new TestLog(`127.0.0.1:${port} - 1`, `127.0.0.1:${port}`);
  const rekor2 = new TestLog("127.0.0.1", "127.0.0.1");
  const fulcio = fulcioHandler(ca);
  const timestamps = tsaHandler(tsa);

  interface Answer {
    readonly status: number;
    readonly body: string | Uint8Array;
    readonly headers: Readonly<Record<string, string>>;
  }

  async function handle(request: IncomingMessage, body: Buffer): Promise<Answer> {
    switch (request.url ?? "") {
      case "/api/v2/signingCert": {
        const asked = JSON.parse(body.toString()) as Json;
        const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
        const credentials = asked["credentials"] ?? { oidcIdentityToken: bearer };
        const { statusCode, response } = await fulcio.fn(JSON.stringify({ ...asked, credentials }));
        return { status: statusCode === 201 ? 200 : statusCode, body: response as string, headers: {} };
      }
      case "/api/v1/log/entries": {
        const entry = canonicalV1(JSON.parse(body.toString()) as Json);
        const uuid = randomBytes(40).toString("hex");
        return {
          status: 201,
          body: JSON.stringify({ [uuid]: logV1(rekor1, entry) }),
          headers: { etag: uuid, location: `/api/v1/log/entries/${uuid}` },
        };
      }
      case "/api/v2/log/entries":
        return { status: 201, body: JSON.stringify(logV2(rekor2, JSON.parse(body.toString()) as Json)), headers: {} };
      case "/api/v1/timestamp": {
        const { statusCode, response } = await timestamps.fn(body.toString());
        return { status: statusCode, body: response as Uint8Array, headers: { "content-type": "application/timestamp-reply" } };
      }
      default:
        return { status: 404, body: "{}", headers: {} };
    }
  }

  const start = new Date(Date.now() - 3600_000).toISOString();
  const base64 = (bytes: ArrayBufferView): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
  const log = (baseUrl: string, spki: Buffer, logId: Buffer) => ({
    baseUrl,
    hashAlgorithm: "SHA2_256",
    publicKey: { rawBytes: spki.toString("base64"), keyDetails: "PKIX_ECDSA_P256_SHA_256", validFor: { start } },
    logId: { keyId: logId.toString("base64") },
  });
  const authority = (uri: string, certificates: readonly ArrayBufferView[]) => ({
    subject: { organization: "sigstore.mock", commonName: "test" },
    uri,
    certChain: { certificates: certificates.map((bytes) => ({ rawBytes: base64(bytes) })) },
    validFor: { start },
  });
  const service = (path: string, majorApiVersion: number) => ({
    url: `${url}${path}`,
    majorApiVersion,
    validFor: { start },
    operator: "test",
  });

  return {
    url,
    requests,
    rekorKey: rekor1.publicKey,
    caPem: `-----BEGIN CERTIFICATE-----\n${base64(ca.rootCertificate).replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`,
    trustedRoot: {
      mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
      tlogs: [log(url, rekor1.spki, rekor1.logId), log("http://127.0.0.1", rekor2.spki, rekor2.logId)],
      certificateAuthorities: [authority(url, [ca.rootCertificate])],
      ctlogs: [log(`${url}/ct`, ctlog.publicKey, Buffer.from(base64(ctlog.logID), "base64"))],
      timestampAuthorities: [authority(url, [tsa.intCertificate, tsa.rootCertificate])],
    },
    signingConfig: (rekor, stamps) => ({
      mediaType: "application/vnd.dev.sigstore.signingconfig.v0.2+json",
      caUrls: [service("", 1)],
      oidcUrls: [],
      rekorTlogUrls: rekor === undefined ? [] : [service("", rekor)],
      rekorTlogConfig: { selector: "ANY" },
      tsaUrls: stamps === "with-timestamps" ? [service("/api/v1/timestamp", 1)] : [],
      tsaConfig: { selector: "ANY" },
    }),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A token that the test Fulcio believes. */
export function identityToken(claims: Json): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 600;
  return `${part({ alg: "none", typ: "JWT" })}.${part({ iss: "https://issuer.test", aud: "sigstore", exp, iat: exp - 600, ...claims })}.c2lnbmF0dXJl`;
}

/** What Rekor makes of a proposed entry: hashes in place of content. */
function canonicalV1(proposed: Json): Json {
  if (proposed["kind"] !== "dsse") return proposed;
  const spec = proposed["spec"] as { proposedContent: { envelope: string; verifiers: readonly string[] } };
  const { envelope, verifiers } = spec.proposedContent;
  const parsed = JSON.parse(envelope) as { payload: string; signatures: readonly { sig: string }[] };
  const sha256 = (bytes: Buffer | string) => ({ algorithm: "sha256", value: createHash("sha256").update(bytes).digest("hex") });
  return {
    apiVersion: "0.0.1",
    kind: "dsse",
    spec: {
      envelopeHash: sha256(envelope),
      payloadHash: sha256(Buffer.from(parsed.payload, "base64")),
      signatures: parsed.signatures.map(({ sig }, i) => ({ signature: sig, verifier: verifiers[i] ?? verifiers[0] })),
    },
  };
}

function logV1(log: TestLog, entry: Json): Json {
  const body = Buffer.from(json.canonicalize(entry));
  const { index, treeSize, root, hashes, checkpoint } = log.append(body);
  const promised = {
    body: body.toString("base64"),
    integratedTime: Math.floor(Date.now() / 1000),
    logID: log.logId.toString("hex"),
    logIndex: index,
  };
  return {
    ...promised,
    verification: {
      signedEntryTimestamp: log.sign(Buffer.from(json.canonicalize(promised))).toString("base64"),
      inclusionProof: {
        logIndex: index,
        treeSize,
        rootHash: root.toString("hex"),
        hashes: hashes.map((hash) => hash.toString("hex")),
        checkpoint,
      },
    },
  };
}

function logV2(log: TestLog, request: Json): Json {
  const [kind, body] = bodyV2(request);
  const bytes = Buffer.from(json.canonicalize(body));
  return { ...proofV2(log, log.append(bytes)), kindVersion: { kind, version: "0.0.2" }, canonicalizedBody: bytes.toString("base64") };
}

function proofV2(log: TestLog, { index, treeSize, root, hashes, checkpoint }: Inclusion): Json {
  return {
    logIndex: String(index),
    logId: { keyId: log.logId.toString("base64") },
    integratedTime: "0",
    inclusionProof: {
      logIndex: String(index),
      treeSize: String(treeSize),
      rootHash: root.toString("base64"),
      hashes: hashes.map((hash) => hash.toString("base64")),
      checkpoint: { envelope: checkpoint },
    },
  };
}

function bodyV2(request: Json): readonly [string, Json] {
  const hashed = request["hashedRekordRequestV002"] as { digest: string; signature: Json } | undefined;
  if (hashed !== undefined) {
    const data = { algorithm: "SHA2_256", digest: hashed.digest };
    return [
      "hashedrekord",
      { apiVersion: "0.0.2", kind: "hashedrekord", spec: { hashedRekordV002: { data, signature: hashed.signature } } },
    ];
  }
  const { envelope, verifiers } = request["dsseRequestV002"] as {
    envelope: { payload: string; signatures: readonly { sig: string }[] };
    verifiers: readonly Json[];
  };
  const digest = createHash("sha256").update(Buffer.from(envelope.payload, "base64")).digest("base64");
  const signatures = envelope.signatures.map(({ sig }) => ({ content: sig, verifier: verifiers[0] }));
  return [
    "dsse",
    { apiVersion: "0.0.2", kind: "dsse", spec: { dsseV002: { payloadHash: { algorithm: "SHA2_256", digest }, signatures } } },
  ];
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
