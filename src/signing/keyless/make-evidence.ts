import { createHash, X509Certificate } from "node:crypto";
import type { TransparencyLogEntry } from "@sigstore/bundle";
import { HashAlgorithm } from "@sigstore/protobuf-specs";
import type { SignatureBundle } from "@sigstore/sign";
import type * as SigstoreSign from "@sigstore/sign";
import type { CallOptions } from "../../store/index.ts";
import { SigningError } from "../errors.ts";
import { keyDetailsOf } from "../keys/key-types.ts";
import { publicPemOf, spkiOf, type PublicKey } from "../keys/public-key.ts";
import type { KeySigner } from "../keys/signer.ts";
import { checkIdentityToken } from "./identity-token.ts";
import type { KeylessSigner } from "./keyless-signer.ts";
import { logAtRekorV2, type RekorV2Request } from "./rekor-v2.ts";
import type { SigningServices } from "./services.ts";

/** What is signed, and what the log is told about it. */
export interface ContentToSign {
  /** The signed bytes. */
  readonly message: Buffer;
  readonly form: { readonly kind: "message" } | { readonly kind: "envelope"; readonly payloadType: string; readonly payload: Buffer };
}

/** A signature with everything that vouches for it. */
export interface SignatureEvidence {
  readonly signature: Buffer;
  /** PEM of the certificate; `undefined` with a key. */
  readonly certificatePem: string | undefined;
  readonly logEntry: TransparencyLogEntry | undefined;
  /** RFC 3161 responses, DER. */
  readonly timestamps: readonly Buffer[];
}

const network = { timeout: 20_000, retry: { retries: 3, minTimeout: 500, maxTimeout: 5000 } } as const;

/** Signs with a fresh key, has it certified and makes it known. Throws `ERR_IDENTITY_TOKEN` or `ERR_SIGNING_SERVICE`. */
export async function signKeyless(
  { identityToken, services }: KeylessSigner,
  content: ContentToSign,
  options: CallOptions,
): Promise<SignatureEvidence> {
  const { FulcioSigner } = await loadSigstoreSign();
  const { fulcioUrl } = services;
  if (fulcioUrl === undefined) throw noService("certificate authority");
  const token = checkIdentityToken(await identityToken(options), new Date());
  const fulcio = new FulcioSigner({ fulcioBaseURL: fulcioUrl, identityProvider: { getToken: () => Promise.resolve(token) }, ...network });
  const { signature, key } = await called(fulcioUrl, token, () => fulcio.sign(content.message));
  if (key.$case !== "x509Certificate") throw noService("certificate");
  const certificatePem = new X509Certificate(key.certificate).toString();
  return {
    signature,
    certificatePem,
    ...(await witness(content, signature, { kind: "certificate", pem: certificatePem }, services, token, options)),
  };
}

/** Makes a signature by a key known. Throws `ERR_SIGNING_SERVICE`. */
export async function signLogged(
  signer: KeySigner,
  services: SigningServices,
  content: ContentToSign,
  options: CallOptions,
): Promise<SignatureEvidence> {
  const signature = Buffer.from(await signer.sign(content.message, options));
  return {
    signature,
    certificatePem: undefined,
    ...(await witness(content, signature, { kind: "key", publicKey: signer.publicKey }, services, undefined, options)),
  };
}

/** Whose signature it is: a certificate for one signature, or a key. */
type Verifier = { readonly kind: "certificate"; readonly pem: string } | { readonly kind: "key"; readonly publicKey: PublicKey };

async function witness(
  { message, form }: ContentToSign,
  signature: Buffer,
  verifier: Verifier,
  { rekor, timestampUrls }: SigningServices,
  token: string | undefined,
  { signal }: CallOptions,
): Promise<Pick<SignatureEvidence, "logEntry" | "timestamps">> {
  const { RekorWitness, TSAWitness } = await loadSigstoreSign();
  const digest = createHash("sha256").update(message).digest();
  const bundle: SignatureBundle =
    form.kind === "envelope"
      ? {
          $case: "dsseEnvelope",
          dsseEnvelope: { payloadType: form.payloadType, payload: form.payload, signatures: [{ keyid: "", sig: signature }] },
        }
      : { $case: "messageSignature", messageSignature: { messageDigest: { algorithm: HashAlgorithm.SHA2_256, digest }, signature } };
  const timestamps: Buffer[] = [];
  for (const url of timestampUrls) {
    const { rfc3161Timestamps } = await called(url, token, () => new TSAWitness({ tsaBaseURL: url, ...network }).testify(bundle));
    timestamps.push(...rfc3161Timestamps.map(({ signedTimestamp }) => Buffer.from(signedTimestamp)));
  }
  switch (rekor?.majorApiVersion) {
    case undefined:
      return { logEntry: undefined, timestamps };
    case 1: {
      const log = new RekorWitness({ rekorBaseURL: rekor.url, majorApiVersion: 1, ...network });
      const pem = verifier.kind === "certificate" ? verifier.pem : publicPemOf(verifier.publicKey.key);
      const { tlogEntries } = await called(rekor.url, token, () => log.testify(bundle, pem));
      return { logEntry: tlogEntries[0], timestamps };
    }
    case 2:
      // cosign logs an envelope here as any other message, by the hash of its signed encoding, and reads nothing else
      // (measured with 3.1: a dsse 0.0.2 entry makes it find "no signatures").
      return {
        logEntry: await logAtRekorV2({
          url: rekor.url,
          digest,
          signature,
          verifier: rekorVerifier(verifier),
          ...(signal === undefined ? {} : { signal }),
        }),
        timestamps,
      };
  }
}

function rekorVerifier(verifier: Verifier): RekorV2Request["verifier"] {
  switch (verifier.kind) {
    case "certificate":
      return { kind: "x509Certificate", der: new X509Certificate(verifier.pem).raw, keyDetails: "PKIX_ECDSA_P256_SHA_256" };
    case "key":
      return {
        kind: "publicKey",
        der: spkiOf(verifier.publicKey.key),
        keyDetails: keyDetailsOf(verifier.publicKey.key, verifier.publicKey.type),
      };
  }
}

/**
 * The client for Fulcio, Rekor and timestamp authorities. It brings 47 packages, which nobody needs who signs with keys:
 * so it is an optional peer.
 */
async function loadSigstoreSign(): Promise<Pick<typeof SigstoreSign, "FulcioSigner" | "RekorWitness" | "TSAWitness">> {
  try {
    return await import("@sigstore/sign");
  } catch (cause) {
    throw new SigningError("ERR_SIGNING_PACKAGE_MISSING", {
      message: "signing without a key, and telling a transparency log, needs the package @sigstore/sign, which is not installed",
      hint: "npm install @sigstore/sign",
      cause,
    });
  }
}

async function called<Value>(url: string, token: string | undefined, call: () => Promise<Value>): Promise<Value> {
  try {
    return await call();
  } catch (error) {
    throw serviceError(url, error, token);
  }
}

/** The client puts a whole bad token into its message (`IDENTITY_TOKEN_PARSE_ERROR`): only its code and status pass. */
function serviceError(url: string, error: unknown, token: string | undefined): SigningError {
  const facts = error instanceof Error ? error : new Error("unknown failure");
  const { cause } = facts;
  const reasons = [facts.message, cause instanceof Error ? cause.message : ""].filter((text) => text !== "");
  const text = reasons
    .map((reason) => (token === undefined ? reason : reason.replaceAll(token, "<token>")))
    .join(": ")
    .replace(/eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*/g, "<token>")
    .slice(0, 500);
  return new SigningError("ERR_SIGNING_SERVICE", {
    message: `${new URL(url).host} did not do its part of the signing: ${text}`,
    hint: "nothing was stored; check the service and the token, and sign again",
  });
}

function noService(what: string): SigningError {
  return new SigningError("ERR_SIGNING_CONFIG_MALFORMED", {
    message: `the signing config names no ${what} that is valid now`,
    hint: "give a signing config with a caUrls entry whose validFor includes now",
  });
}
