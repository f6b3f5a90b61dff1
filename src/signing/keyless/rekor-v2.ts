import type { TransparencyLogEntry } from "@sigstore/bundle";
import { TransparencyLogEntry as ProtoLogEntry } from "@sigstore/protobuf-specs";
import { collect, parseJson } from "../../bytes/index.ts";
import type { CallOptions } from "../../store/index.ts";
import { SigningError } from "../errors.ts";

/** What a Rekor v2 log is told of a signature. */
export interface RekorV2Request extends CallOptions {
  readonly url: string;
  /** SHA-256 of the signed bytes. */
  readonly digest: Buffer;
  readonly signature: Buffer;
  readonly verifier: { readonly kind: "x509Certificate" | "publicKey"; readonly der: Buffer; readonly keyDetails: string };
}

const limits = { timeoutMs: 60_000, maxBytes: 4 * 1024 * 1024 } as const;

/**
 * Logs a signature at Rekor v2 and gives back the entry with its proof.
 *
 * `@sigstore/sign` 5.1 calls every verifier an X.509 certificate, also a public key, which a log cannot read; so this one
 * request is ours. Throws `ERR_SIGNING_SERVICE`. Source: sigstore/rekor-tiles, `POST /api/v2/log/entries`.
 */
export async function logAtRekorV2({ url, digest, signature, verifier, signal }: RekorV2Request): Promise<TransparencyLogEntry> {
  const request = {
    hashedRekordRequestV002: {
      digest: digest.toString("base64"),
      signature: {
        content: signature.toString("base64"),
        verifier: { [verifier.kind]: { rawBytes: verifier.der.toString("base64") }, keyDetails: verifier.keyDetails },
      },
    },
  };
  const timeout = AbortSignal.timeout(limits.timeoutMs);
  const { host } = new URL(url);
  const { fetch } = await import("undici");
  let status: number;
  let bytes: Buffer;
  try {
    const response = await fetch(`${url}/api/v2/log/entries`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(request),
      redirect: "error",
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    status = response.status;
    bytes =
      response.body === null ? Buffer.alloc(0) : await collect(response.body, { maxBytes: limits.maxBytes, subject: `answer of ${host}` });
  } catch (cause) {
    signal?.throwIfAborted();
    throw failed(host, "it cannot be asked", cause);
  }
  if (status !== 200 && status !== 201) throw failed(host, `it answered ${status}`);
  const entry = ProtoLogEntry.fromJSON(parseJson(bytes, { maxBytes: limits.maxBytes, subject: `answer of ${host}` }));
  const { logId, kindVersion, inclusionProof } = entry;
  if (logId === undefined || kindVersion === undefined || inclusionProof === undefined)
    throw failed(host, "its entry lacks log, kind or proof");
  return { ...entry, logId, kindVersion };
}

function failed(host: string, complaint: string, cause?: unknown): SigningError {
  return new SigningError("ERR_SIGNING_SERVICE", {
    message: `the transparency log ${host} did not take the signature: ${complaint}`,
    hint: "nothing was stored; check the log, and sign again",
    cause,
  });
}
